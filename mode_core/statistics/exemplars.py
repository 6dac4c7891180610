"""Exemplars: for each expert the text tokens and vision patches that its router weighed most, to be looked at.

Reading what a run holds needs no model:

    found = Run.open(path).exemplars()          # None in a run that was made without them
    for token in found.text(bank, expert):      # at most `found.per_expert`, largest routing weight first
        print(token.weight, token.before, token.token, token.after)
    for patch in found.patches(bank, expert):
        patch.sample, patch.image, patch.box    # which picture, and (left, top, right, bottom) as shares of it
        patch.crop(context=1)                   # PIL picture: the patch and one cell around it; None if not kept
    for sound in found.sounds(bank, expert):
        sound.sample, sound.sound, sound.span   # which sound, and (begin, end) in seconds

What counts, and in which order: largest routing weight first; of equal weights the sample, then the position that
comes first. Text that a person wrote comes before special tokens and what the chat template added, whatever the
weights, since these are the same in every sample. The same token after the same words counts once. So the n best of
a union are the n best of the parts' n best: exemplars of two processes, or of two halves of the samples, merge.

Memory and size on disk: banks × E × 3 × `per_expert` entries of about 90 bytes, and at most `PICTURES` small pictures;
neither grows with the number of samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from annotated_types import Interval, Len
from typing_extensions import TypedDict

from mode_core.errors import ExemplarsError
from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.json_files import OPEN, Amount, Digits, Grid, Name, checked, newer, parse_json
from mode_core.modalities import MODALITIES, USUAL
from mode_core.statistics.exemplar_entries import (
    AFTER,
    BEFORE,
    ENTRY,
    FIELDS,
    NO_TOKEN,
    PatchExemplar,
    SoundExemplar,
    TextExemplar,
    cell_of,
    picture_name,
    put_best,
    sample_key,
    span_of,
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
    "SoundExemplar",
    "TextExemplar",
    "cell_of",
    "picture_name",
    "put_best",
    "sample_key",
    "standing",
]

FORMAT = 2  # 1 where no expert has an audio token, as it always was
FILE = "exemplars.safetensors"
FOLDER = "exemplar_pictures"
PICTURES = 256  # small pictures kept beside the exemplars, those first that most exemplars refer to


class _Sample(TypedDict):
    """What is told of a sample that an entry refers to; of a video which frames were looked at."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: Name
    grids: list[Grid] | None
    frames: NotRequired[list[Annotated[list[int | None], Len(2, 2)]] | None]
    sounds: NotRequired[list[Annotated[list[Amount], Len(2, 2)]]]


class _Header(TypedDict):
    """What the file says beside its arrays."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    format: Literal[1, 2]
    per_expert: Annotated[int, Interval(ge=0, le=4096)]
    banks: list[Name]
    samples: dict[Digits, _Sample]
    snippets: list[Annotated[list[str], Len(3, 3)] | None]


@dataclass
class Exemplars:
    """All banks' exemplars. `tables[bank]` is `ENTRY` `[K, E, n]`: text first, then vision, then audio, best first.

    `samples` tells of each sample that an entry refers to, by `sample_key`: its id, the token grids of its
    pictures, and tokens and seconds of its sounds. `snippets` are (before, token, after) by window. See the head of
    this file.
    """

    per_expert: int
    tables: dict[str, np.ndarray]
    samples: dict[int, dict[str, Any]] = field(default_factory=dict)
    snippets: dict[bytes, tuple[str, str, str]] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def empty(cls, experts: Mapping[str, int], per_expert: int) -> Exemplars:
        """None yet, for banks of these numbers of experts."""
        return cls(
            per_expert, {bank: np.zeros([len(MODALITIES), count, per_expert], ENTRY) for bank, count in experts.items()}
        )

    def text(self, bank: str, expert: int) -> tuple[TextExemplar, ...]:
        """Text tokens of one expert, best first; empty where none was routed to it."""
        return tuple(self._text(entry) for entry in self._held(bank, 0, expert))

    def patches(self, bank: str, expert: int) -> tuple[PatchExemplar, ...]:
        """Vision tokens of one expert, best first; empty where none was routed to it."""
        return tuple(self._patch(entry) for entry in self._held(bank, 1, expert))

    def sounds(self, bank: str, expert: int) -> tuple[SoundExemplar, ...]:
        """Audio tokens of one expert, best first; empty where none was routed to it."""
        return tuple(self._sound(entry) for entry in self._held(bank, 2, expert))

    def _sound(self, entry: np.ndarray) -> SoundExemplar:
        sample, place = self.samples[int(entry["sample"])], int(entry["place"])
        sounds = sample.get("sounds", ())
        number, span = span_of(place, sounds)
        more = {} if number is None else {"seconds": sounds[number][1], "picture": self._file(entry, number, "s")}
        weight, position = float(entry["weight"]), int(entry["position"])
        return SoundExemplar(sample["id"], weight, position, place, number, span, **more)

    def _file(self, entry: np.ndarray, number: int | None, mark: str = "") -> Path | None:
        """The small picture of a picture or a sound of the entry's sample, where it was kept."""
        if number is None or self.folder is None:
            return None
        file = self.folder / picture_name(int(entry["sample"]), number, mark)
        return file if file.is_file() else None

    def _held(self, bank: str, kind: int, expert: int) -> np.ndarray:
        if bank not in self.tables:
            raise ExemplarsError(f"These exemplars hold no bank {bank!r}; they hold: {', '.join(self.tables)}.")
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
        return PatchExemplar(
            sample["id"],
            float(entry["weight"]),
            int(entry["position"]),
            place,
            image,
            cell,
            grid,
            self._file(entry, image),
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

    def media_counts(self) -> dict[tuple[int, int, str], int]:
        """(`sample_key`, number, "") → how many patches lie in that picture; with "s" how many tokens in that sound."""
        counts: dict[tuple[int, int, str], int] = {}
        for table in self.tables.values():
            for kind, mark in ((1, ""), (2, "s")):
                held = table[kind][table[kind]["weight"] > 0]
                for key, place in zip(held["sample"].tolist(), held["place"].tolist(), strict=True):
                    sample = self.samples[key]
                    found = span_of(place, sample.get("sounds")) if mark else cell_of(place, sample["grids"])
                    if (number := found[0]) is not None:
                        counts[key, number, mark] = counts.get((key, number, mark), 0) + 1
        return counts

    def _windows(self) -> np.ndarray:
        """The windows of all text entries, each once: int32 `[n, width]`."""
        held = [table[0]["window"][table[0]["weight"] > 0] for table in self.tables.values()]
        return np.unique(np.concatenate([np.zeros([0, BEFORE + 1 + AFTER], "<i4"), *held]), axis=0)

    def save(self, folder: str | Path) -> None:
        """Write `exemplars.safetensors` into a run's folder, atomically; a field of all entries is one array."""
        tensors: dict[str, np.ndarray] = {}
        heard = any(table[len(USUAL) :]["weight"].any() for table in self.tables.values())
        for number, table in enumerate(self.tables.values()):
            kept = table if heard else table[: len(USUAL)]
            tensors |= {f"{number}|{name}": _stored(kept, name) for name in FIELDS}
        windows = self._windows()
        tensors["windows"] = windows
        header = {
            "format": FORMAT if heard else 1,
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
            ExemplarsError: the file is damaged or newer; the text names the field.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        tensors, metadata = read_tensors(path, ExemplarsError)
        header = _checked_header(parse_json(metadata.get("exemplars", "null"), path, ExemplarsError), path)
        experts = {bank: _experts(tensors, number, path) for number, bank in enumerate(header["banks"])}
        tables = {
            bank: _read_table(tensors, number, (*experts[bank], header["per_expert"]), path)
            for number, bank in enumerate(header["banks"])
        }
        windows = _field(tensors, "windows", (len(header["snippets"]), BEFORE + 1 + AFTER), "i", path)
        words = zip(windows, header["snippets"], strict=True)
        exemplars = cls(
            header["per_expert"],
            tables,
            {int(key): facts for key, facts in header["samples"].items()},
            {window.tobytes(): tuple(text) for window, text in words if text is not None},
            Path(folder) / FOLDER,
        )
        exemplars._check_references(path)
        return exemplars

    def _check_references(self, path: Path) -> None:
        """Refuse entries that name a sample, a snippet or a place that the file does not hold."""
        if unknown := set(self.referred()) - set(self.samples):
            raise ExemplarsError(f"{path} is damaged: samples: the entries name {unknown.pop()}, which is not there.")
        if not {window.tobytes() for window in self._windows()} <= set(self.snippets):
            raise ExemplarsError(f"{path} is damaged: snippets: an entry's window is not there.")
        for bank, table in self.tables.items():
            if (table[1:]["place"][table[1:]["weight"] > 0] < 0).any():
                raise ExemplarsError(f"{path} is damaged: places of bank {bank}: a vision token's is below 0.")


def _checked_header(record: object, path: Path) -> dict[str, Any]:
    version = record.get("format") if isinstance(record, dict) else None
    if type(version) is int and version > FORMAT:
        raise ExemplarsError(newer(path, version, FORMAT))
    return checked(record, _Header, path, ExemplarsError)


def _stored(table: np.ndarray, name: str) -> np.ndarray:
    """One field as it is written: text alone has context; truth values as bytes."""
    values = table["window"][0] if name == "window" else table[name]
    return values.astype(np.uint8) if values.dtype == bool else values


def _experts(tensors: Mapping[str, np.ndarray], number: int, path: Path) -> tuple[int, int]:
    held = tensors.get(f"{number}|weight")
    if held is None or held.ndim != 3:
        raise ExemplarsError(f"{path} is damaged: {number}|weight is missing, or not by kind, expert and place.")
    return (len(MODALITIES) if held.shape[0] == len(MODALITIES) else len(USUAL)), held.shape[1]


def _read_table(tensors: Mapping[str, np.ndarray], number: int, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """One bank's entries `ENTRY` of this shape, from an array for each of their fields."""
    table = np.zeros(shape, ENTRY)
    for name in FIELDS:
        place = table["window"][0] if name == "window" else table[name]
        kind = "u" if place.dtype == bool else place.dtype.kind
        place[...] = _field(tensors, f"{number}|{name}", place.shape, kind, path)
    if not np.isfinite(table["weight"]).all():
        raise ExemplarsError(f"{path} is damaged: {number}|weight holds what is no number.")
    return np.concatenate([table, np.zeros((len(MODALITIES) - len(table), *shape[1:]), ENTRY)])


def _field(tensors: Mapping[str, np.ndarray], key: str, shape: tuple[int, ...], kind: str, path: Path) -> np.ndarray:
    array = tensors.get(key)
    if array is None or array.shape != shape or array.dtype.kind != kind:
        held = "is missing" if array is None else f"is {array.dtype} of shape {array.shape}"
        raise ExemplarsError(f"{path} is damaged: {key} {held}; expected shape {shape}.")
    return array
