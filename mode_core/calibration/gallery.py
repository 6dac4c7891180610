"""The first samples of a calibration, kept small with their token scores, so that a person can look at them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from mode_core.calibration.probe import Observation
from mode_core.files import atomic_write
from mode_core.models import TEXT, VISION, Encoded
from mode_core.run import Run, TokenScores
from mode_core.samples import ImageSource, Sample

THUMBNAIL = 384  # longest side in pixels


class Gallery:
    """Collects the first `limit` samples. Memory: their vision tokens × banks × signals, in float32."""

    def __init__(self, limit: int):
        self.limit = limit
        self.samples: list[Sample] = []
        self.facts: list[dict[str, Any]] = []
        self.grids: list[Any] = []
        self.scores: dict[tuple[str, str], dict[str, np.ndarray]] = {}  # (sample, signal) -> bank -> [N]

    def note(self, samples: list[Sample], encoded: Encoded) -> None:
        """Take the samples of a batch that were measured, as long as there is room."""
        for row, sample in enumerate(samples[: self.limit - len(self.samples)]):
            counts = [int((encoded.modality[row] == kind).sum()) for kind in (TEXT, VISION)]
            self.samples.append(sample)
            self.facts.append(dict(zip(("text_tokens", "vision_tokens"), counts, strict=True)))
            self.grids.append(encoded.grids[row])

    def observe(self, seen: Observation) -> None:
        """Take the scores of one bank for as many samples of this batch as there will be room for."""
        for row, sample in enumerate(seen.encoded.ids[: max(0, self.limit - len(self.samples))]):
            vision = torch.nonzero(seen.encoded.modality[row] == VISION).ravel()
            for signal, scores in seen.importance.items() if len(vision) else ():
                values = scores[row, vision].float().cpu().numpy()
                self.scores.setdefault((sample, signal), {})[seen.bank.name] = values

    def save(self, run: Run) -> None:
        """Write thumbnails, records and scores into the run."""
        records, tables = [], []
        for number, (sample, facts, grids) in enumerate(zip(self.samples, self.facts, self.grids, strict=True)):
            pictures = [f"{number:03d}-{place}.png" for place in range(len(sample.images))]
            for name, source in zip(pictures, sample.images, strict=True):
                atomic_write(run.path / "thumbnails" / name, thumbnail(source))
            records.append(
                {"id": sample.id, "text": sample.text, "answer": sample.answer, "task": sample.task, **facts}
                | {"images": [source.name for source in sample.images], "thumbnails": pictures, "grids": grids}
            )
            if mine := {signal: banks for (known, signal), banks in self.scores.items() if known == sample.id}:
                banks = tuple(next(iter(mine.values())))
                scores = {signal: np.stack([by_bank[bank] for bank in banks]) for signal, by_bank in mine.items()}
                tables.append(TokenScores(sample.id, banks, scores, grids))
        run.write_samples(records, tables)


def thumbnail(source: ImageSource) -> bytes:
    """A PNG of at most `THUMBNAIL` pixels a side; never enlarged."""
    picture = source.load()
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
