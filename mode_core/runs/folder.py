"""The folder of a run: begun by one process, held while it is written, renamed, removed; and its run.json."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from mode_core.errors import RunError, in_words
from mode_core.files import LOCK, process_ended, sweep, writing
from mode_core.json_files import check_format, checked, read_json, shortened, write_json
from mode_core.runs.records import FORMAT, STATES, RunInfo


class RunFolder:
    """What `Run` is as a folder; `info` is its run.json."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._holds = 0

    @classmethod
    def create(cls, path: str | Path, **info: Any) -> Self:
        """Begin a run in a new or empty folder, or where a process that has ended had measured nothing yet; `info`
        goes into run.json. Of two processes that begin one at once, the second is refused.

        Raises:
            RunError: the folder holds something already, or cannot be made.
            BusyError: another process is at it just now.
        """
        run = cls(path)
        new = not run.path.exists()
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            with run.locked():
                if run._nothing_was_measured():
                    run._empty()
                if held := next((each for each in sorted(run.path.iterdir()) if each.name != LOCK), None):
                    raise RunError(
                        f"{run.path} is not empty (it holds {held.name}); choose another folder for the run."
                    )
                begun = {"format": FORMAT, "name": run.path.name, "state": "begun", "created": time.time()}
                run.write_info(begun | {"process": {"pid": os.getpid(), "host": socket.gethostname()}} | info)
        except OSError as failure:
            if new and run.path.is_dir() and not any(run.path.iterdir()):
                run.path.rmdir()
            failure.filename, failure.filename2 = str(run.path), None
            raise RunError(f"The run's folder cannot be made. {in_words(failure)}") from None
        return run

    def _nothing_was_measured(self) -> bool:
        """Did a process begin here and end before its first checkpoint?"""
        if not (self.path / "run.json").is_file() or (self.path / "statistics.safetensors").exists():
            return False
        info = RunFolder(self.path).info
        return info["state"] == "begun" and process_ended(info.get("process", {}))

    def _empty(self) -> None:
        for each in self.path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a run's folder; a half-done run opens with what it has. What killed processes left there is removed.

        Raises:
            RunError: no such folder, no or damaged run.json, another format, damaged or missing statistics.
        """
        run = cls(path)
        if not os.path.isdir(path):  # noqa: PTH112  (says False of an impossible path, where Path raises)
            raise RunError(f"There is no run at {path}. Make one with 'python -m mode_core calibrate --out {path}'.")
        state = run.info["state"]
        statistics = run.path / "statistics.safetensors"
        if state == "done" and not statistics.is_file():
            raise RunError(f"{run.path} is done, but its statistics.safetensors is missing. Copy it whole, or redo it.")
        sweep(run.path)
        return run

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Be the only process that measures into this run, or renames or removes it, while the block runs; within
        the block it may be asked for again. What other processes wrote before is seen.

        Raises:
            BusyError: another process is at it; it is named.
        """
        if self._holds:
            yield self
            return
        with writing(self.path / LOCK, f"The run {self.path}"):
            for kept in ("info", "statistics"):
                self.__dict__.pop(kept, None)
            self._holds += 1
            try:
                yield self
            finally:
                self._holds -= 1

    @contextmanager
    def measuring(self) -> Iterator[Self]:
        """`locked`; a run in which nothing was measured when the block fails is gone afterwards."""
        with self.locked():
            try:
                yield self
            except BaseException:
                if (self.path / "run.json").is_file() and self.info["state"] == "begun":
                    self.remove()
                raise

    def rename(self, target: str | Path) -> None:
        """Move the run to another folder.

        Raises:
            RunError: something is there already. BusyError: a process writes there.
        """
        target = Path(target)
        with self.locked():
            if target.exists():
                raise RunError(f"There is a run called {target.name!r} already; choose another name.")
            self.path.rename(target)
            (target / LOCK).unlink(missing_ok=True)
        self.path = target

    def remove(self) -> None:
        """Delete the run with everything in it.

        Raises:
            BusyError: a process writes there.
        """
        with self.locked():
            shutil.rmtree(self.path)

    @staticmethod
    def files(path: Path) -> list[Path]:
        """The files of a run (or another folder) that are worth copying: no locks, no unfinished ones."""
        return [
            each
            for each in sorted(path.rglob("*"))
            if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
        ]

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        return self.path.resolve().name

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """The content of run.json, its fields as `RunInfo` has them.

        Raises:
            RunError: it is missing, damaged, or of a newer format; the text names the field.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise RunError(f"{self.path} is a folder without run.json, so no run; choose a run's folder.")
        record = read_json(path, RunError)
        check_format(record, FORMAT, path, RunError, "run of this software")
        if record.get("state") not in STATES:
            told = shortened(record.get("state"))
            raise RunError(f"{path}: the state is {told}; expected one of {', '.join(STATES)}.")
        return checked(record, RunInfo, path, RunError)

    @property
    def state(self) -> str:
        """ "begun" (nothing measured yet), "half done" or "done"."""
        return self.info["state"]

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json; which process began the run is forgotten once it holds something."""
        kept = {key: value for key, value in info.items() if key != "process" or info["state"] == "begun"}
        write_json(self.path / "run.json", kept)
        self.__dict__["info"] = kept
