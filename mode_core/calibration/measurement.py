"""A calibration under way: what it has measured, and how that is written to a run and taken up again from one."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mode_core.calibration.exemplars import ExemplarSums
from mode_core.calibration.gallery import Gallery
from mode_core.calibration.imatrix import EnergySums
from mode_core.calibration.logit_kl import LogitKL, without_kl
from mode_core.calibration.settings import CalibrationSettings
from mode_core.calibration.sums import BankSums
from mode_core.calibration.task_sums import TaskSums
from mode_core.errors import CalibrationError
from mode_core.models import Encoded, LoadedModel
from mode_core.probing.attention_sources import borrowed_attention
from mode_core.probing.observation import Observation
from mode_core.runs.records import told_of_videos
from mode_core.runs.run import Run, portable_samples, portable_source
from mode_core.samples import Sample, samples_digest
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.exemplars import Exemplars
from mode_core.statistics.imatrix import InputEnergies
from mode_core.versions import versions

SPARE = ".spare"  # room that is set aside in a run's folder, for the last write on a full disk
MOST_LISTED = 1000  # samples that could not be read, named in run.json
SPARE_BESIDE = 4 << 20  # bytes set aside for what is written beside the statistics


@dataclass
class Measurement:
    """What one process measures. Sums are only ever read between batches, so they are whole.

    `earlier` are the statistics of an interrupted run that this one continues; the sums hold what came since. `kl` is
    the KL of the answer that was measured with them, by samples of its own, and stays as it is. `unread` could not be
    read at all, `drawn` and `origin` say how the samples were chosen and where they lie; `strict` ends at the first
    that is refused.

    Memory: the sums, and three times as much while they are written; it does not grow with the samples.
    """

    loaded: LoadedModel
    settings: CalibrationSettings
    run: Run | None
    given: Sequence[Sample]
    gallery: Gallery
    exemplars: ExemplarSums
    tasks: TaskSums
    earlier: ExpertStatistics | None = None
    kl: LogitKL | None = None
    strict: bool = False
    drawn: dict[str, Any] | None = None
    origin: dict[str, Any] | None = None
    unread: list[dict[str, str]] = field(default_factory=list)
    energies: EnergySums | None = None
    videos: list[int | None] = field(default_factory=list)  # vision tokens of video frames, by what was added
    sums: dict[str, BankSums] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    seconds_before: float = 0.0
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    unsaved: int = 0

    @classmethod
    def begin(
        cls, loaded: LoadedModel, settings: CalibrationSettings, run: Run | None, given: Sequence[Sample]
    ) -> Measurement:
        """Nothing measured yet, or what the run holds already.

        Raises:
            CalibrationError: the run is of another model, of other settings, or of other samples.
        """
        gallery, tasks = Gallery(settings.token_scores_for, loaded), TaskSums(list(loaded.banks.values()), given)
        work = cls(loaded, settings, run, list(given), gallery, ExemplarSums(loaded, 0), tasks)
        work.unread = unread(getattr(given, "errors", ()))
        work.drawn, work.origin = getattr(given, "drawn", None), getattr(given, "origin", None)
        exemplars = None if run is None else Exemplars.load(run.path)
        exemplars = exemplars if exemplars is not None and exemplars.per_expert == settings.exemplars else None
        work.exemplars = ExemplarSums(loaded, settings.exemplars, exemplars)
        if run is not None and run.statistics is not None:
            work.earlier, work.kl = without_kl(run.statistics)
            _check_same(run, work.label(), work.earlier, given)
            work.gallery.take(run, run.statistics.samples)
        if settings.imatrix:
            work.energies = EnergySums(loaded, settings.imatrix_key_ratio, settings.signals[0], _earlier_energies(work))
        if run is not None:
            ids = {sample.id for sample in given} - set(work.measured)
            work.refused = [entry for entry in run.info.get("refused", ()) if entry["sample"] in ids]
            work.videos = [run.info.get("video_tokens", 0)]
            work.seconds_before = float(run.info.get("seconds", 0.0))
        return work

    def label(self) -> dict[str, Any]:
        """What the statistics say they were measured with."""
        return self.settings.measured_with() | {"model": self.loaded.name, "revision": self.loaded.revision}

    @property
    def measured(self) -> tuple[str, ...]:
        """Ids of the samples that are in the statistics."""
        return (() if self.earlier is None else self.earlier.samples) + tuple(self.done)

    def left(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those that were neither measured nor refused."""
        known = {*self.measured, *(entry["sample"] for entry in self.refused)}
        return [sample for sample in samples if sample.id not in known]

    def observe(self, seen: Observation) -> None:
        """Take what one bank did in one batch."""
        self.gallery.observe(seen)
        self.exemplars.observe(seen)
        self.sums[seen.bank.name].add(seen)
        self.tasks.observe(seen)
        if self.energies is not None:
            self.energies.observe(seen)

    def finish_batch(self, samples: list[Sample], encoded: Encoded) -> None:
        """All banks have seen these samples."""
        self.gallery.note(samples, encoded)
        self.tasks.finish_batch()
        self.videos += encoded.videos
        self.done += [sample.id for sample in samples]
        self.unsaved += len(samples)

    def due(self) -> bool:
        """Is it time to write what was measured?"""
        late = time.monotonic() - self.saved >= self.settings.checkpoint_seconds
        return self.run is not None and self.unsaved > 0 and (late or self.unsaved >= self.settings.checkpoint_samples)

    def statistics(self) -> ExpertStatistics:
        """Everything measured so far, that of an interrupted run included; samples in the order in which they came."""
        found = self.earlier
        if self.sums:
            made = {name: self.sums[name].statistics() for name in self.loaded.banks}
            bits, signals, by_task = self.settings.bits, self.settings.signals, self.tasks.result()
            fresh = ExpertStatistics(made, bits, signals, self.label(), tuple(self.done), by_task)
            found = fresh if found is None else found + fresh
        place = {sample.id: number for number, sample in enumerate(self.given)}
        found = replace(found, samples=tuple(sorted(found.samples, key=place.__getitem__)))
        return found if self.kl is None else self.kl.added_to(found)

    def save(self, state: str) -> ExpertStatistics:
        """Write what was measured so far; the statistics are returned.

        Raises:
            CalibrationError: it cannot be written, not even into the room that was set aside; or only there.
        """
        statistics = self.statistics()
        if self.run is not None:
            try:
                self._write(statistics, state)
            except OSError as failure:
                self._write_at_last(statistics, state, failure)
        self.saved, self.unsaved = time.monotonic(), 0
        return statistics

    def _write(self, statistics: ExpertStatistics, state: str) -> None:
        self.gallery.save(self.run)
        self.exemplars.save(self.run, self.given)
        energies = None if self.energies is None else self.energies.result(tuple(self.done))
        if energies is not None:
            energies.save(self.run.path)
        self.run.write_statistics(statistics, state=state, **self.info(statistics))
        if energies is not None:
            energies.tidy(self.run.path)
        if state == "done":
            (self.run.path / SPARE).unlink(missing_ok=True)

    def _write_at_last(self, statistics: ExpertStatistics, state: str, failure: OSError) -> None:
        """Once more, into the room that was set aside; a run that is finished by that needs no more."""
        reason = failure.strerror or str(failure)
        (self.run.path / SPARE).unlink(missing_ok=True)
        try:
            self._write(statistics, state)
        except OSError:
            kept = Run(self.run.path).info.get("samples", {}).get("measured", 0)
            raise CalibrationError(
                f"What was measured cannot be written to {self.run.path} ({reason}). The run keeps the {kept} samples "
                "of the last checkpoint; make room or rights there, and continue with 'calibrate --resume'."
            ) from failure
        if state != "done":
            raise CalibrationError(
                f"The disk of {self.run.path} is full ({reason}). The {len(statistics.samples)} samples measured so "
                "far are kept; make room there, and continue with 'calibrate --resume'."
            ) from failure

    def set_room_aside(self) -> None:
        """Reserve as much disk as a last write can need, so that a full disk loses nothing.

        Raises:
            CalibrationError: there is not so much room; said before anything is measured.
        """
        if self.run is None:
            return
        held = {sample.modality for sample in self.given}
        size = (
            SPARE_BESIDE
            + self.tasks.counts.nbytes
            + sum(
                array.nbytes for sums in self.sums.values() for array in sums.statistics().having(held).arrays.values()
            )
        )
        try:
            _fill(self.run.path / SPARE, size)
        except OSError as failure:
            (self.run.path / SPARE).unlink(missing_ok=True)
            raise CalibrationError(
                f"The run in {self.run.path} can take {size / 1e6:,.0f} MB, which cannot be set aside there "
                f"({failure.strerror}); make room, or choose another folder."
            ) from failure

    def info(self, statistics: ExpertStatistics) -> dict[str, Any]:
        """What run.json says beside format, name and state."""
        return model_info(self.loaded) | {
            "samples": {
                "given": len(self.given),
                "measured": len(statistics.samples),
                "digest": samples_digest(self.given),
                **({"drawn": self.drawn} if self.drawn else {}),
                **({"origin": portable_samples(self.origin)} if self.origin else {}),
            },
            "refused": [*self.unread, *self.refused],
            "settings": self.settings.to_dict(),
            "tokens": token_counts(statistics),
            **told_of_videos(self.videos),
            "attention_from": borrowed_attention(self.loaded),
            "seconds": round(self.seconds_before + time.monotonic() - self.began, 3),
            "peak_memory_bytes": peak_memory(self.loaded.device),
            "versions": versions(),
        }


def unread(errors: Sequence[str]) -> list[dict[str, str]]:
    """What could not be read, as run.json lists it: where it stands, and the reason; of very many only the first."""
    parts = (text.partition(": ") for text in errors[:MOST_LISTED])
    entries = [{"sample": where, "reason": reason or where} for where, _, reason in parts]
    more = len(errors) - len(entries)
    return entries + ([{"sample": f"and {more:,} more", "reason": "not listed"}] if more else [])


def model_info(loaded: LoadedModel) -> dict[str, Any]:
    """What run.json says of the model."""
    model = {
        "source": portable_source(loaded.source),
        "name": loaded.name,
        "class": type(loaded.model).__name__,
        "revision": loaded.revision,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "device": loaded.device.type,
        "processor": type(loaded.processor).__name__,
    }
    return {"model": model}


def token_counts(statistics: ExpertStatistics) -> dict[str, int]:
    """Tokens of all samples by modality: what the banks of one layer saw together."""
    layer = next(iter(statistics)).shape.layer
    banks = [bank for bank in statistics if bank.shape.layer == layer]
    return {name: sum(int(bank.tokens_by_fold(name).sum()) for bank in banks) for name in statistics.modalities}


def _check_same(run: Run, label: dict[str, Any], held: ExpertStatistics, given: Sequence[Sample]) -> None:
    """Refuse to continue a run that measures something else."""
    other = {key for key in {*label, *held.settings} if label.get(key) != held.settings.get(key)}
    if other:
        told = "; ".join(f"{key}: {held.settings.get(key)!r} there, {label.get(key)!r} now" for key in sorted(other))
        raise CalibrationError(f"The run {run.path} cannot be continued with other settings ({told}). Begin a new one.")
    if strange := set(held.samples) - {sample.id for sample in given}:
        raise CalibrationError(
            f"The run {run.path} holds {len(strange)} samples that are not among those given ({sorted(strange)[0]} …); "
            "continue it with the samples that it was begun with, or begin a new one."
        )


def _earlier_energies(work: Measurement) -> InputEnergies | None:
    """Input energies of the samples that the run holds already.

    Raises:
        CalibrationError: it holds samples without them.
    """
    if work.earlier is None or not work.earlier.samples:
        return None
    if (found := InputEnergies.load(work.run.path, work.earlier.samples)) is None:
        raise CalibrationError(
            f"The run {work.run.path} was begun without an importance matrix; continue it without, or begin a new one."
        )
    return found


def _fill(path: Path, size: int) -> None:
    """A file that really takes `size` bytes of the disk."""
    with path.open("wb") as opened:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(opened.fileno(), 0, size)
                return
            except OSError as failure:
                if failure.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a disk that knows no such thing
                    raise
        for _ in range(0, size, 1 << 20):
            opened.write(bytes(1 << 20))


def peak_memory(device: torch.device) -> int:
    """Most memory that this process ever held, in bytes; on a GPU what torch held there."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
