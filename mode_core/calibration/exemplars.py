"""Collects exemplars while the model runs: the tokens of each modality that every expert was chosen for most strongly.

What counts as best, and what is kept, is told in `statistics.exemplars`. Each batch only the tokens that beat what an
expert holds already are looked at more closely, which after a few batches are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mode_core.calibration.gallery import drawn_sound, small_picture
from mode_core.files import atomic_write
from mode_core.modalities import CODES, RANKED
from mode_core.models import PADDING, TEXT, Encoded, LoadedModel
from mode_core.probing.observation import Observation
from mode_core.runs.run import Run
from mode_core.samples import Sample, SampleError
from mode_core.statistics.exemplars import (
    AFTER,
    BEFORE,
    ENTRY,
    FOLDER,
    NO_TOKEN,
    PICTURES,
    Exemplars,
    picture_name,
    put_best,
    sample_key,
    standing,
)

THUMBNAIL = 320  # longest side in pixels of a small picture
PICTURE_MARK, SOUND_MARK = "▦", "♪"  # stand in a snippet for the tokens of one picture or sound
FORGET_EVERY = 64  # batches between two looks at which samples are still referred to


@dataclass(frozen=True)
class _Batch:
    """The tokens of one batch that a bank sees; arrays `[used]` on the CPU, made once for all banks that see the same.

    Where a bank sees a part of the positions, the others are no padding of the sample: places and contexts are those of
    the whole sample.
    """

    encoded: Encoded
    used: torch.Tensor
    code: np.ndarray
    template: np.ndarray
    sample: np.ndarray
    position: np.ndarray
    place: np.ndarray
    window: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, encoded: Encoded) -> _Batch:
        used = torch.nonzero(encoded.modality.ravel() != PADDING).ravel()
        modality = encoded.modality.cpu().numpy()
        seen, attended = modality != PADDING, encoded.attended
        code = modality[seen].astype(np.int64)
        keys = np.array([sample_key(name) for name in encoded.ids], np.int64)
        sample = keys[np.nonzero(seen)[0]]
        place = np.full(modality.shape, -1)
        for held in (modality == CODES[name] for name in RANKED):  # places among the sample's tokens of the same kind
            place = np.where(held, np.cumsum(held, axis=1) - 1, place)
        place = place[seen]
        window = _windows(np.asarray(encoded.inputs["input_ids"].cpu()), attended)[seen[attended]]
        group = np.where(code != TEXT, _mixed(np.stack([sample, place], axis=1)), _mixed(window[:, : BEFORE + 1]))
        position = (np.cumsum(attended, axis=1) - 1)[seen]
        template = encoded.template_mask.cpu().numpy()[seen]
        return cls(encoded, used, code, template, sample, position, place, window, group)


def _windows(ids: np.ndarray, attended: np.ndarray) -> np.ndarray:
    """Token ids around every used token of `ids` `[batch, L]`: int32 `[used, width]`, `NO_TOKEN` beyond the ends."""
    padded = np.pad(np.where(attended, ids, NO_TOKEN), ((0, 0), (BEFORE, AFTER)), constant_values=NO_TOKEN)
    around = np.lib.stride_tricks.sliding_window_view(padded, BEFORE + 1 + AFTER, axis=1)
    return around[attended].astype(np.int32)


def _mixed(rows: np.ndarray) -> np.ndarray:
    """A hash of every row of whole numbers `[n, m]` → int64 `[n]` (wrapping around is meant)."""
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64)


class ExemplarSums:
    """The running best of every expert; merges with those of other processes and of earlier runs.

    `found` is what was collected so far (`statistics.exemplars.Exemplars`, whose head states the memory). A run that
    goes on starts from `Exemplars.load(run.path)`.
    """

    def __init__(self, loaded: LoadedModel, per_expert: int, found: Exemplars | None = None):
        self.loaded, self.batches = loaded, 0
        self.found = found or Exemplars.empty({b.name: b.experts for b in loaded.banks.values()}, per_expert)
        self._batches: list[_Batch] = []  # of the batch under way, one for each part of it that some bank sees
        self._floor = {bank: self._floors(table) for bank, table in self.found.tables.items()}

    @property
    def per_expert(self) -> int:
        """Tokens of each modality that are kept per expert; 0 collects nothing."""
        return self.found.per_expert

    def _floors(self, table: np.ndarray) -> np.ndarray:
        """What an entry must reach to be among the best of its slot: `[3·E]`."""
        last = table.reshape(-1, self.per_expert)[:, -1] if self.per_expert else np.zeros(0, ENTRY)
        return np.where(last["weight"] > 0, standing(last), -np.inf)

    def observe(self, seen: Observation) -> None:
        """Take one bank's choices in one batch."""
        if not self.per_expert:
            return
        batch, count = self._batch_of(seen.encoded), seen.bank.experts
        experts = seen.experts[batch.used].cpu().numpy()
        weights = seen.weights[batch.used].float().cpu().numpy()
        slots = experts + ((batch.code - TEXT) * count)[:, None]
        floor = self._floor[seen.bank.name]
        value = weights.astype(np.float64) - float(1 << 20) * batch.template[:, None]
        tokens, choices = np.nonzero((value >= floor[slots]) & (weights > 0))
        if len(tokens):
            self._take(batch, seen.bank.name, tokens, slots[tokens, choices], weights[tokens, choices])

    def _take(self, batch: _Batch, bank: str, tokens: np.ndarray, slots: np.ndarray, weights: np.ndarray) -> None:
        fresh = np.zeros(len(tokens), ENTRY)
        fresh["weight"] = weights
        for name in ("template", "sample", "position", "place", "group"):
            fresh[name] = getattr(batch, name)[tokens]
        fresh["window"] = np.where(batch.code[tokens, None] != TEXT, 0, batch.window[tokens])
        table = self.found.tables[bank].reshape(-1, self.per_expert)
        touched = np.unique(slots)
        held = table[touched]
        known = held["weight"] > 0
        before = np.broadcast_to(touched[:, None], held.shape)[known]
        put_best(table, np.concatenate([held[known], fresh]), np.concatenate([before, slots]))
        last = table[touched, -1]
        self._floor[bank][touched] = np.where(last["weight"] > 0, standing(last), -np.inf)

    def _batch_of(self, encoded: Encoded) -> _Batch:
        if self._batches and self._batches[0].encoded.inputs is not encoded.inputs:
            self._batches.clear()
        if not self._batches:
            self._begin(encoded)
        known = next((batch for batch in self._batches if batch.encoded is encoded), None)
        if known is None:
            known = _Batch.of(encoded)
            self._batches.append(known)
        return known

    def _begin(self, encoded: Encoded) -> None:
        self.batches += 1
        frames = encoded.frames or (None,) * len(encoded.ids)
        sounds = encoded.sounds or ((),) * len(encoded.ids)
        for sample, grids, shown, heard in zip(encoded.ids, encoded.grids, frames, sounds, strict=True):
            facts = {"id": sample, "grids": None if grids is None else [list(grid) for grid in grids]}
            if shown is not None and any(frame is not None for _, frame in shown):
                facts["frames"] = [list(place) for place in shown]
            if heard:
                facts["sounds"] = [list(one) for one in heard]
            self.found.samples[sample_key(sample)] = facts
        if self.batches % FORGET_EVERY == 0:
            now = {sample_key(sample) for sample in encoded.ids}
            referred = self.found.referred().keys() | now
            self.found.samples = {key: facts for key, facts in self.found.samples.items() if key in referred}

    def result(self) -> Exemplars:
        """What was collected so far, with every snippet in words."""
        exemplars = self.found
        self._batches.clear()
        exemplars.forget()
        fresh = [window for window in exemplars._windows() if window.tobytes() not in exemplars.snippets]
        tokenizer = getattr(self.loaded.processor, "tokenizer", self.loaded.processor)
        for window in fresh:
            exemplars.snippets[window.tobytes()] = snippet(
                tokenizer, self.loaded.vision_ids, window, self.loaded.audio_ids
            )
        return exemplars

    def save(self, run: Run, samples: Iterable[Sample] = ()) -> None:
        """Write what was collected so far into the run, with small pictures of those `samples` it refers to."""
        if self.per_expert:
            self.result().save(run.path)
            save_pictures(self.found, run.path / FOLDER, {sample_key(sample.id): sample for sample in samples})


def snippet(
    tokenizer: Any, vision_ids: Iterable[int], window: np.ndarray, audio_ids: Iterable[int] = ()
) -> tuple[str, str, str]:
    """Token ids around a token → (text before, the token, text after); a run of vision or audio tokens shows as one
    mark."""
    marks = dict.fromkeys(vision_ids, PICTURE_MARK) | dict.fromkeys(audio_ids, SOUND_MARK)

    def words(ids: np.ndarray) -> str:
        parts, kept = [], []
        for token in [*ids.tolist(), NO_TOKEN]:
            if token != NO_TOKEN and token not in marks:
                kept.append(token)
                continue
            parts += [tokenizer.decode(kept)] if kept else []
            parts += [marks[token]] if token in marks and parts[-1:] != [marks[token]] else []
            kept = []
        return "".join(parts)

    before, through, whole = (words(window[:end]) for end in (BEFORE, BEFORE + 1, None))
    if not (through.startswith(before) and whole.startswith(through)):  # one character spread over several tokens
        return before, words(window[BEFORE : BEFORE + 1]), words(window[BEFORE + 1 :])
    return before, through[len(before) :], whole[len(through) :]


def save_pictures(found: Exemplars, folder: Path, samples: Mapping[int, Sample]) -> None:
    """Keep the `PICTURES` pictures and sounds that most exemplars lie in (ties: by sample), small, as JPEG (a sound as
    its spectrogram); drop all others.

    Pictures that lie there already are not made again. A picture that cannot be read any more is left out.
    """
    counts = found.media_counts()
    wanted = sorted(counts, key=lambda place: (-counts[place], place))[:PICTURES]
    names = {picture_name(*place) for place in wanted}
    for file in folder.glob("*.jpg"):
        if file.name not in names:
            file.unlink()
    for key, number, mark in wanted:
        file = folder / picture_name(key, number, mark)
        if not file.is_file() and key in samples:
            try:
                if mark:
                    atomic_write(file, drawn_sound(samples[key].audio[number], "JPEG", quality=90))
                    continue
                source = samples[key].pictures(found.samples[key].get("frames"))[number]
                atomic_write(file, small_picture(source, THUMBNAIL, "JPEG", quality=90))
            except SampleError:
                continue
