"""What the command line shows: a progress bar, the time and memory that a verb took, and its result in words."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType

import psutil
from tqdm import tqdm

from mode_core.importance import METHODS
from mode_core.jobs import Progress


class BarHook:
    """A `ProgressHook` that draws one bar on standard error."""

    def __init__(self, title: str, quiet: bool = False):
        self.title, self.quiet = title, quiet
        self.bar: tqdm | None = None

    def __enter__(self) -> BarHook:
        return self

    def __call__(self, progress: Progress) -> None:
        if self.quiet:
            return
        if self.bar is None or self.bar.total != progress.total:
            self.close()
            self.bar = tqdm(total=progress.total, desc=self.title, file=sys.stderr, leave=False)
        self.bar.set_postfix_str(progress.what, refresh=False)
        self.bar.update(progress.done - self.bar.n)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Meter:
    """Seconds and peak resident memory of a block; memory is sampled every 50 ms on a thread of its own."""

    def __enter__(self) -> Meter:
        self._process = psutil.Process()
        self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._started = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._seconds = time.perf_counter() - self._started
        self._peak = max(self._peak, self._process.memory_info().rss)

    def result(self) -> dict[str, float]:
        """Seconds, and peak resident memory in MB (10^6 bytes), the interpreter and its libraries included."""
        return {"seconds": round(self._seconds, 3), "peak_memory_mb": round(self._peak / 1e6, 1)}


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return str(value)


def print_result(verb: str, result: Mapping[str, object], indent: int = 0) -> None:
    """The result as aligned lines, nested tables indented; the cost last, in words."""
    cost = result.get("cost")
    rows = {key: value for key, value in result.items() if key != "cost"}
    width = max((len(key) for key, value in rows.items() if not isinstance(value, Mapping)), default=0)
    for key, value in rows.items():
        typed = "." in key or key.partition(" (")[0] in METHODS  # names of modules, files and methods stay as they are
        label = key if typed else key.replace("_", " ")
        if isinstance(value, Mapping):
            print(" " * indent + label)
            print_result(verb, value, indent + 2)
        else:
            print(" " * indent + f"{label:<{width}}  {_value(value)}")
    if isinstance(cost, Mapping):
        print(f"{verb} took {cost['seconds']:.1f} s; peak memory {cost['peak_memory_mb']:.0f} MB.")
