"""The first samples of a calibration, kept small with their token scores and routes, for a person to look at."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mode_core.calibration.routing import RouteKeeper
from mode_core.files import atomic_write
from mode_core.modalities import CODES, USUAL
from mode_core.models import AUDIO, VISION, Encoded, LoadedModel
from mode_core.probing.observation import Observation
from mode_core.runs.run import Run, TokenScores
from mode_core.runs.token_routes import TokenRoutes
from mode_core.samples import AudioSource, ImageSource, Sample
from mode_core.samples.images import thumbnail
from mode_core.samples.spectrograms import spectrogram
from mode_core.statistics.exemplars import sample_key

THUMBNAIL = 384  # longest side in pixels
MAX_PICTURES = 64  # of one sample; further frames of a video have scores, but are not kept to be looked at
FOLDER = "thumbnails"


@dataclass
class _Entry:
    """One sample: what samples.json says of it, its scores `[signal][bank] [N]`, how to get its small pictures, and
    which experts its tokens used. `audio` and `sounds` are the same of its sounds, (tokens, seconds) each."""

    record: dict[str, Any]
    grids: Any
    scores: dict[str, dict[str, np.ndarray]]
    pictures: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    routes: TokenRoutes | None = None
    audio: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    sounds: tuple[tuple[int, float], ...] = ()


class Gallery:
    """Collects the first `limit` samples, `keeper.watching` in place around the probe.

    Memory: their vision and audio tokens × banks × signals in float32, and their `TokenRoutes`.
    """

    def __init__(self, limit: int, loaded: LoadedModel):
        self.limit = limit
        self.keeper = RouteKeeper(loaded, lambda: len(self.entries) < self.limit)
        self.entries: dict[str, _Entry] = {}
        self.scores: dict[tuple[str, int, str], dict[str, np.ndarray]] = {}  # (sample, kind, signal) -> bank -> [N]

    def take(self, run: Run, known: Iterable[str]) -> None:
        """Add what an earlier or another process kept in its run, of the samples that are `known` to be measured."""
        known, scores, routes = set(known), run.token_scores(), run.token_routes()
        for record in run.sample_records():
            if (name := record["id"]) not in known or name in self.entries:
                continue
            found = scores.get(name)
            by_bank, heard = (
                {s: dict(zip(found.banks, v, strict=True)) for s, v in scores_.items()}
                for scores_ in (({}, {}) if found is None else (found.scores, found.audio))
            )
            kept = {kind: [Path(file) for file in record[kind]] for kind in ("thumbnails", "sounds") if kind in record}
            pictures = {file.name: file.read_bytes for files in kept.values() for file in files}
            plain = record | {kind: [file.name for file in files] for kind, files in kept.items()}
            sounds = () if found is None else found.sounds
            self.entries[name] = _Entry(plain, record["grids"], by_bank, pictures, routes.get(name), heard, sounds)

    def keep_first(self, order: Sequence[str]) -> None:
        """Put the samples in this order, and drop those beyond the limit."""
        place = {name: number for number, name in enumerate(order)}
        kept = sorted(self.entries, key=lambda name: place.get(name, len(place)))[: self.limit]
        self.entries = {name: self.entries[name] for name in kept}

    def note(self, samples: list[Sample], encoded: Encoded) -> None:
        """Take the samples of a batch that were measured, as long as there is room."""
        for row, sample in enumerate(samples[: max(0, self.limit - len(self.entries))]):
            counts = {f"{name}_tokens": int((encoded.modality[row] == code).sum()) for name, code in CODES.items()}
            counts = {key: n for key, n in counts.items() if n or key.removesuffix("_tokens") in USUAL}
            grids = encoded.grids[row]
            sources = sample.pictures(encoded.frames[row] if encoded.frames else None)[:MAX_PICTURES]
            names = [f"{sample_key(sample.id):016x}-{place}.png" for place in range(len(sources))]
            record = {"id": sample.id, "text": sample.text, "answer": sample.answer, "task": sample.task}
            record |= counts
            record |= {"images": [s.name for s in sources], "thumbnails": names, "grids": grids}
            scores, audio = (
                {s: banks for (known, kind, s), banks in self.scores.items() if (known, kind) == (sample.id, code)}
                for code in (VISION, AUDIO)
            )
            pictures = {n: partial(small_picture, s) for n, s in zip(names, sources, strict=True)}
            sounds = encoded.sounds[row] if encoded.sounds else ()
            if sounds:
                drawn = [f"{sample_key(sample.id):016x}-s{place}.png" for place in range(len(sounds))]
                record |= {"sounds": drawn}
                pictures |= {n: partial(drawn_sound, sound) for n, sound in zip(drawn, sample.audio, strict=True)}
            routes = self.keeper.take(encoded, row)
            self.entries[sample.id] = _Entry(record, grids, scores, pictures, routes, audio, sounds)
        self.scores.clear()
        self.keeper.forget()

    def observe(self, seen: Observation) -> None:
        """Take the scores and routes of one bank for as many samples of this batch as there will be room for."""
        room = range(min(len(seen.encoded.ids), max(0, self.limit - len(self.entries))))
        if room:
            self.keeper.observe(seen, room)
        for row, sample in enumerate(seen.encoded.ids[: len(room)]):
            for kind in (VISION, AUDIO):
                held = torch.nonzero(seen.encoded.modality[row] == kind).ravel()
                for signal, scores in seen.importance.items() if len(held) else ():
                    values = scores[row, held].float().cpu().numpy()
                    self.scores.setdefault((sample, kind, signal), {})[seen.bank.name] = values

    def save(self, run: Run) -> None:
        """Write thumbnails (those that are not there yet), records, scores and routes into the run."""
        records, tables = [], []
        for entry in self.entries.values():
            for name, make in entry.pictures.items():
                if not (run.path / FOLDER / name).is_file():
                    atomic_write(run.path / FOLDER / name, make())
            records.append(entry.record)
            if entry.scores or entry.audio:
                banks = tuple(next(iter((entry.scores or entry.audio).values())))
                scores, audio = (
                    {signal: np.stack([by_bank[b] for b in banks]) for signal, by_bank in held.items()}
                    for held in (entry.scores, entry.audio)
                )
                tables.append(TokenScores(entry.record["id"], banks, scores, entry.grids, audio, entry.sounds))
        routes = [entry.routes for entry in self.entries.values() if entry.routes is not None]
        run.write_samples(records, tables, routes)


def drawn_sound(sound: AudioSource, form: str = "PNG", **options: Any) -> bytes:
    """The sound's spectrogram, in Pillow's `form` with its `options`."""
    buffer = io.BytesIO()
    spectrogram(sound).save(buffer, format=form, **options)
    return buffer.getvalue()


def small_picture(source: ImageSource, size: int = THUMBNAIL, form: str = "PNG", **options: Any) -> bytes:
    """A picture of at most `size` pixels a side, never enlarged, in Pillow's `form` with its `options`."""
    buffer = io.BytesIO()
    thumbnail(source, size).save(buffer, format=form, optimize=form == "PNG", **options)
    return buffer.getvalue()
