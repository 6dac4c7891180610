"""Exemplars: for each expert the text tokens and vision patches that its router weighed most, to be looked at.

Reading what a run holds needs no model:

    found = Run.open(path).exemplars()          # None in a run that was made without them
    for token in found.text(bank, expert):      # at most `found.per_expert`, largest routing weight first
        print(token.weight, token.before, token.token, token.after)
    for patch in found.patches(bank, expert):
        patch.sample, patch.image, patch.box    # which picture, and (left, top, right, bottom) as shares of it
        patch.crop(context=1)                   # PIL picture: the patch and one cell around it; None if not kept

What counts, and in which order: largest routing weight first; of equal weights the sample, then the position that
comes first. Text that a person wrote comes before special tokens and what the chat template added, whatever the
weights, since these are the same in every sample. The same token after the same words counts once. So the n best of
a union are the n best of the parts' n best: exemplars of two processes, or of two halves of the samples, merge.

Memory and size on disk: banks × E × 2 × `per_expert` entries of about 90 bytes, and at most `PICTURES` small pictures;
neither grows with the number of samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.statistics.exemplar_entries import (
    AFTER,
    BEFORE,
    ENTRY,
    NO_TOKEN,
    PatchExemplar,
    TextExemplar,
    cell_of,
    picture_name,
    put_best,
    sample_key,
    standing,
)

__all__ = [
    "AFTER",
    "BEFORE",
    "ENTRY",
    "FILE",
    "FOLDER",
    "NO_TOKEN",
    "PICTURES",
    "Exemplars",
    "ExemplarsError",
    "PatchExemplar",
    "TextExemplar",
    "cell_of",
    "picture_name",
    "put_best",
    "sample_key",
    "standing",
]

FILE = "exemplars.safetensors"
FOLDER = "exemplar_pictures"
PICTURES = 256  # small pictures kept beside the exemplars, those first that most exemplars refer to


class ExemplarsError(ValueError):
    """Exemplars that cannot be read or merged; the text names the file and what to do."""


@dataclass
class Exemplars:
    """All banks' exemplars. `tables[bank]` is `ENTRY` `[2, E, n]`: text first, then vision, best first.

    `samples` tells of each sample that an entry refers to, by `sample_key`: its id and the token grids of its
    pictures. `snippets` are (before, token, after) by window. See the head of this file.
    """

    per_expert: int
    tables: dict[str, np.ndarray]
    samples: dict[int, dict[str, Any]] = field(default_factory=dict)
    snippets: dict[bytes, tuple[str, str, str]] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def empty(cls, experts: Mapping[str, int], per_expert: int) -> Exemplars:
        """None yet, for banks of these numbers of experts."""
        return cls(per_expert, {bank: np.zeros([2, count, per_expert], ENTRY) for bank, count in experts.items()})

    def text(self, bank: str, expert: int) -> tuple[TextExemplar, ...]:
        """Text tokens of one expert, best first; empty where none was routed to it."""
        return tuple(self._text(entry) for entry in self._held(bank, 0, expert))

    def patches(self, bank: str, expert: int) -> tuple[PatchExemplar, ...]:
        """Vision tokens of one expert, best first; empty where none was routed to it."""
        return tuple(self._patch(entry) for entry in self._held(bank, 1, expert))

    def _held(self, bank: str, kind: int, expert: int) -> np.ndarray:
        if bank not in self.tables:
            raise KeyError(f"These exemplars hold no bank {bank!r}; they hold: {', '.join(self.tables)}.")
        row = self.tables[bank][kind, expert]
        return row[row["weight"] > 0]

    def _text(self, entry: np.ndarray) -> TextExemplar:
        sample, words = self.samples[int(entry["sample"])], self.snippets[entry["window"].tobytes()]
        return TextExemplar(
            sample["id"], float(entry["weight"]), int(entry["position"]), *words, bool(entry["template"])
        )

    def _patch(self, entry: np.ndarray) -> PatchExemplar:
        sample, place = self.samples[int(entry["sample"])], int(entry["place"])
        image, cell, grid = cell_of(place, sample["grids"])
        file = None if image is None or self.folder is None else self.folder / picture_name(int(entry["sample"]), image)
        return PatchExemplar(
            sample["id"],
            float(entry["weight"]),
            int(entry["position"]),
            place,
            image,
            cell,
            grid,
            file if file is not None and file.is_file() else None,
        )

    def __add__(self, other: Exemplars) -> Exemplars:
        """The best of both; the order does not matter.

        Raises:
            ExemplarsError: other banks or another number per expert.
        """
        mine, others = ((e.per_expert, {k: t.shape for k, t in e.tables.items()}) for e in (self, other))
        if mine != others:
            raise ExemplarsError("These exemplars are of different models or settings and cannot be merged.")
        merged = Exemplars(self.per_expert, {}, other.samples | self.samples, other.snippets | self.snippets)
        for bank, table in self.tables.items():
            flat = [t.reshape(-1, self.per_expert) for t in (table, other.tables[bank])]
            slots = np.arange(len(flat[0])).repeat(self.per_expert)
            entries, slots = np.concatenate([f.ravel() for f in flat]), np.concatenate([slots, slots])
            held = entries["weight"] > 0
            merged.tables[bank] = np.zeros_like(table)
            put_best(merged.tables[bank].reshape(-1, self.per_expert), entries[held], slots[held])
        merged.forget()
        return merged

    def forget(self) -> None:
        """Drop samples and snippets that no entry refers to any more."""
        self.samples = {key: self.samples[key] for key in sorted(self.referred()) if key in self.samples}
        used = {window.tobytes() for window in self._windows()}
        self.snippets = {window: words for window, words in self.snippets.items() if window in used}

    def referred(self) -> dict[int, int]:
        """`sample_key` → how many entries refer to it."""
        keys = [table["sample"][table["weight"] > 0] for table in self.tables.values()]
        found, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *keys]), return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def patch_counts(self) -> dict[tuple[int, int], int]:
        """(`sample_key`, image) → how many patches lie in that picture."""
        found: dict[tuple[int, int], int] = {}
        for table in self.tables.values():
            held = table[1][table[1]["weight"] > 0]
            for key, place in zip(held["sample"].tolist(), held["place"].tolist(), strict=True):
                if (image := cell_of(place, self.samples[key]["grids"])[0]) is not None:
                    found[key, image] = found.get((key, image), 0) + 1
        return found

    def _windows(self) -> np.ndarray:
        """The windows of all text entries, each once: int32 `[n, width]`."""
        held = [table[0]["window"][table[0]["weight"] > 0] for table in self.tables.values()]
        return np.unique(np.concatenate([np.zeros([0, BEFORE + 1 + AFTER], "<i4"), *held]), axis=0)

    def save(self, folder: str | Path) -> None:
        """Write `exemplars.safetensors` into a run's folder, atomically; a field of all entries is one array."""
        tensors = {}
        for number, table in enumerate(self.tables.values()):
            tensors |= {f"{number}|{name}": _stored(table, name) for name in ENTRY.names}
        windows = self._windows()
        tensors["windows"] = windows
        header = {
            "format": 1,
            "per_expert": self.per_expert,
            "banks": list(self.tables),
            "samples": {str(key): facts for key, facts in self.samples.items()},
            "snippets": [self.snippets.get(window.tobytes()) for window in windows],
        }
        atomic_write(Path(folder) / FILE, tensor_bytes(tensors, {"exemplars": json.dumps(header, ensure_ascii=False)}))

    @classmethod
    def load(cls, folder: str | Path) -> Exemplars | None:
        """Read what `save` wrote; None where a run's folder holds none.

        Raises:
            ExemplarsError: the file is damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        tensors, metadata = read_tensors(path, ExemplarsError)
        try:
            header = json.loads(metadata["exemplars"])
            tables = {bank: _read_table(tensors, number) for number, bank in enumerate(header["banks"])}
            words = zip(tensors["windows"], header["snippets"], strict=True)
            return cls(
                header["per_expert"],
                tables,
                {int(key): facts for key, facts in header["samples"].items()},
                {window.tobytes(): tuple(text) for window, text in words if text is not None},
                Path(folder) / FOLDER,
            )
        except (KeyError, TypeError, ValueError) as broken:
            raise ExemplarsError(f"{path} holds damaged exemplars ({broken}); calibrate again.") from None


def _stored(table: np.ndarray, name: str) -> np.ndarray:
    """One field as it is written: text alone has context; truth values as bytes."""
    values = table["window"][0] if name == "window" else table[name]
    return values.astype(np.uint8) if values.dtype == bool else values


def _read_table(tensors: Mapping[str, np.ndarray], number: int) -> np.ndarray:
    table = np.zeros(tensors[f"{number}|weight"].shape, ENTRY)
    for name in ENTRY.names:
        (table["window"][0] if name == "window" else table[name])[...] = tensors[f"{number}|{name}"]
    return table
