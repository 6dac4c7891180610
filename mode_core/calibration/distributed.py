"""Several processes calibrate together: they share the batches, and what they measured is added up at the end.

    torchrun --nproc-per-node 2 -m mode_core calibrate --out runs/mine
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 … -m mode_core calibrate --out runs/mine

Batches are cut as one process would cut them and dealt out in turn, so every token is computed as it would be by one
process; only the order of the additions differs. Each process keeps a part of the run for itself (`parts/<rank>` in the
run's folder, on its own machine's disk), with checkpoints as any run has. At the end, and at the start of a run that is
continued, the parts travel to the first process through torch.distributed, as files, machine by machine; nothing is
pickled. The first process adds them to the run. Processes need not share a disk, and a continued run may have another
number of them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from mode_core.calibration.measurement import Measurement
from mode_core.calibration.measuring import ROUNDING, batches_of, finish, measure
from mode_core.calibration.settings import CalibrationSettings
from mode_core.errors import CalibrationError
from mode_core.jobs import Cancel, Cancelled, ProgressHook
from mode_core.models import LoadedModel
from mode_core.runs.run import Run
from mode_core.samples import Sample
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.exemplars import Exemplars
from mode_core.statistics.imatrix import InputEnergies

PARTS = "parts"
CHUNK = 1 << 26  # bytes that travel at once
PATIENCE = timedelta(days=7)  # one process may wait for another that measures; torchrun ends all when one dies


@dataclass(frozen=True)
class World:
    """The processes that calibrate together: this one's number, how many there are, and how they talk."""

    rank: int = 0
    size: int = 1

    @classmethod
    def now(cls) -> World:
        """Those of torch.distributed where it is up; else this process alone."""
        up = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if up else cls()

    def tell(self, value: Any) -> list[Any]:
        """What every process says (JSON values), in the order of the ranks."""
        mine = _bytes_tensor(json.dumps(value).encode())
        lengths = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(mine)], device=mine.device))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8, device=mine.device)
        padded[: len(mine)] = mine
        heard = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(heard, padded)
        return [
            json.loads(bytes(part[: int(length)].cpu().numpy())) for part, length in zip(heard, lengths, strict=True)
        ]

    def first_says(self, value: Any) -> Any:
        """What the first process says."""
        return self.tell(value)[0]


@contextmanager
def together(device: str = "auto"):
    """Inside, torch.distributed is up if torchrun started this process (nccl between GPUs, else gloo).

    Yields the device that this process should use: its own GPU where there is one for each, else `device`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or not dist.is_available():
        yield device
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device in ("auto", "cuda") and torch.cuda.device_count() > local
    if on_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield f"cuda:{local}" if on_gpu else device
    finally:
        dist.destroy_process_group()


def calibrate_together(
    world: World,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    settings: CalibrationSettings,
    run: Run | None,
    progress: ProgressHook | None,
    cancel: Cancel | None,
    strict: bool = False,
) -> ExpertStatistics:
    """What `calibrate` does where there are several processes; all of them return the whole statistics.

    Raises:
        CalibrationError: also where another process failed, with its reason; everything measured is kept all the same.
    """
    with tempfile.TemporaryDirectory(prefix="mode-parts-") as spare:
        base = Path(spare) / "run" if run is None else run.path
        main = _Main(world, loaded, settings, samples, run, Path(spare))
        known = main.gather(_leftover(world, base))
        part = Run.create(base / PARTS / str(world.rank))
        outcome = _measure_part(world, loaded, settings, samples, part, known, progress, cancel, strict)
        main.gather([part.path])
        told = world.tell(outcome)
        for rank, ended in enumerate(told):
            if "failed" in ended:
                raise CalibrationError(f"Process {rank} of {world.size}: {ended['failed']}")
        if stopped := [ended["stopped"] for ended in told if "stopped" in ended]:
            raise Cancelled(stopped[0])
        return main.finish()


def _measure_part(
    world: World,
    loaded: LoadedModel,
    settings: CalibrationSettings,
    samples: Sequence[Sample],
    part: Run,
    known: set[str],
    progress: ProgressHook | None,
    cancel: Cancel | None,
    strict: bool,
) -> dict[str, str]:
    """This process's share, as far as it gets; how it ended: {}, {"stopped": …} or {"failed": …}."""
    mine = batches_of(samples, settings.batch_size)[world.rank :: world.size]
    mine = [[sample for sample in batch if sample.id not in known] for batch in mine]
    turn = len(loaded.banks) * world.rank // world.size
    try:
        work = Measurement.begin(loaded, settings, part, list(samples))
        work.strict = strict
        measure(work, mine, progress, cancel, part.path.parent.parent / ROUNDING, turn)
        work.save("half done")
    except Cancelled as stopped:
        return {"stopped": str(stopped)}
    except (ValueError, OSError) as failure:
        return {"failed": str(failure)}
    return {}


class _Main:
    """The whole run, at the first process; the others send it their parts."""

    def __init__(
        self,
        world: World,
        loaded: LoadedModel,
        settings: CalibrationSettings,
        samples: Sequence[Sample],
        run: Run | None,
        spare: Path,
    ):
        self.world, self.spare, self.samples, self.rounds = world, spare, samples, 0
        self.work: Measurement | None = None
        reason = ""
        if world.rank == 0:
            try:
                self.work = Measurement.begin(loaded, settings, run or Run.create(spare / "whole"), samples)
            except (ValueError, OSError) as failure:
                reason = str(failure)
        self._all_well(reason)

    def _all_well(self, reason: str) -> None:
        """Raise at every process what went wrong at the first."""
        if reason := self.world.first_says(reason):
            raise CalibrationError(reason)

    def gather(self, folders: list[Path]) -> set[str]:
        """Add the parts in these folders (each process its own) to the run, then remove them.

        Returns the ids of all samples measured or refused so far, the same at every process.
        """
        self.rounds += 1
        reason, known = "", []
        if self.work is None:
            _send(folders, to=0)
        else:
            received = [_receive(rank, self.spare / f"{self.rounds}-{rank}") for rank in range(1, self.world.size)]
            try:
                self._add([Run.open(part) for part in sum(received, folders)])
            except (ValueError, OSError) as failure:
                reason = f"What the processes measured cannot be put together: {failure}"
            known = [*self.work.measured, *(entry["sample"] for entry in self.work.refused)]
        self._all_well(reason)
        for folder in folders:  # they are in the run now
            shutil.rmtree(folder, ignore_errors=True)
        return set(self.world.first_says(known))

    def _add(self, parts: list[Run]) -> None:
        work, fresh = self.work, False
        for part in parts:
            known = {entry["sample"] for entry in work.refused}
            work.refused += [entry for entry in part.info.get("refused", ()) if entry["sample"] not in known]
            if (found := part.statistics) is None or set(found.samples) <= set(work.measured):
                continue  # nothing measured, or stopped between adding and removing: it is in the run already
            work.earlier = found if work.earlier is None else work.earlier + found
            work.videos.append(part.info.get("video_tokens", 0))
            work.gallery.take(part, found.samples)
            if work.exemplars.per_expert and (best := Exemplars.load(part.path)) is not None:
                work.exemplars.found += best
            if work.energies is not None and (seen := InputEnergies.load(part.path, found.samples)) is not None:
                before = work.energies.earlier
                work.energies.earlier = seen if before is None else before + seen
            fresh = True
        order = [sample.id for sample in self.samples]
        work.gallery.keep_first(order)
        work.refused.sort(key=lambda entry: order.index(entry["sample"]))
        if fresh:
            work.save("half done")

    def finish(self) -> ExpertStatistics:
        """Write the run as done; every process gets its statistics."""
        work, whole, reason = self.work, self.spare / "statistics", ""
        if work is not None and not work.measured:
            reason = f"All {len(self.samples)} samples were refused. The first: {work.refused[0]['reason']}"
        self._all_well(reason)
        if work is None:
            return ExpertStatistics.load(_receive(0, whole)[0] / "statistics.safetensors")
        statistics = finish(work)
        shutil.rmtree(work.run.path / PARTS, ignore_errors=True)
        statistics.save(whole / "statistics.safetensors")
        for rank in range(1, self.world.size):
            _send([whole], to=rank)
        return statistics


def _leftover(world: World, base: Path) -> list[Path]:
    """Parts that an interrupted calibration left on this machine's disk, told by one process of each disk."""
    own_disk = not (base / "run.json").is_file() and os.environ.get("LOCAL_RANK", "0") == "0"
    if world.rank != 0 and not own_disk:
        return []
    return sorted(path.parent for path in (base / PARTS).glob("*/run.json"))


def _send(folders: list[Path], to: int) -> None:
    """Send the files of these folders to a process; hidden ones are left out."""
    files = [
        (number, path.relative_to(folder).as_posix(), path)
        for number, folder in enumerate(folders)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    listed = [(number, name, path.stat().st_size) for number, name, path in files]
    header = json.dumps({"folders": len(folders), "files": listed}).encode()
    dist.send(torch.tensor([len(header)], device=_device()), to)
    dist.send(_bytes_tensor(header), to)
    for _, _, path in files:
        with path.open("rb") as opened:
            while block := opened.read(CHUNK):
                dist.send(_bytes_tensor(block), to)


def _receive(source: int, into: Path) -> list[Path]:
    """The folders that a process sends, written under `into`. Memory: `CHUNK`."""
    length = torch.zeros(1, dtype=torch.int64, device=_device())
    dist.recv(length, source)
    header = json.loads(_received(int(length), source))
    folders = [into / str(number) for number in range(header["folders"])]
    for number, name, size in header["files"]:
        path = folders[number] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as opened:
            for first in range(0, size, CHUNK):
                opened.write(_received(min(CHUNK, size - first), source))
    return folders


def _received(size: int, source: int) -> bytes:
    block = torch.empty(size, dtype=torch.uint8, device=_device())
    dist.recv(block, source)
    return block.cpu().numpy().tobytes()


def _bytes_tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(_device())


def _device() -> torch.device:
    """Where tensors that travel have to lie: with nccl on this process's GPU."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
