"""A model at least three times larger than the memory that the process may use is calibrated, sensitivity included.

    python -m tests.benchmarks.calibrate_offload [--layers 9] [--samples 4] [--bits 1 4] [--folder /tmp]

Makes a checkpoint with the shapes of Qwen3-VL-30B-A3B (see `large_model`), calibrates it through the command line in a
process of its own, and deletes it. Needs about three times the checkpoint in disk: the checkpoint, the experts as
transformers rewrites them for offloading, and room.

What is limited: the process runs in a memory cgroup of its own below this process's (Linux, needs the right to make
one), whose limit counts its heap and every file page that it brings into memory; the files are dropped from the
page cache beforehand, so that none comes free. Above the limit the kernel takes back clean file pages, and where that
is not enough it kills the process. With `--no-cgroup` a watcher kills it instead where its anonymous memory (which no
file backs) passes the limit. Reported are the cgroup's own peak, the peak of anonymous memory (seen every 20 ms), and
the kernel's peak of everything resident (`ru_maxrss`), mapped file pages included, which may be taken back at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.large_model import EXPERT_BYTES, make

ROOT = Path(__file__).resolve().parents[2]
CONSTANT = 1_200_000_000  # bytes beside two layers: Python and its libraries, embeddings, vision tower, sums, one batch


class Cgroup:
    """A memory cgroup below this process's own, of either version, removed at the end."""

    def __init__(self, limit: int):
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()]
        first = next((path for _, kinds, path in lines if "memory" in kinds.split(",")), None)
        root = "/sys/fs/cgroup" + ("/memory" if first is not None else "")
        own = first if first is not None else next(path for _, kinds, path in lines if not kinds)
        self.names = ("limit_in_bytes", "max_usage_in_bytes") if first is not None else ("max", "peak")
        self.path = Path(root + own) / f"calibrate-offload-{os.getpid()}"
        self.path.mkdir()
        (self.path / f"memory.{self.names[0]}").write_text(str(limit), encoding="ascii")

    def enter(self) -> None:
        """Put the calling process into it (between fork and exec)."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def peak(self) -> int:
        """Most bytes that were ever charged to it."""
        return int((self.path / f"memory.{self.names[1]}").read_text(encoding="ascii"))

    def remove(self) -> None:
        """Once its processes have ended."""
        self.path.rmdir()


def anonymous(process: int) -> int:
    """Resident memory that no file backs, in bytes, now; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def watched(
    command: list[str], limit: int, group: Cgroup | None, told: bool = True
) -> tuple[int, dict[str, int], float]:
    """Run a command under the limit: exit code (negative: the signal), peaks in bytes, seconds; may be silent."""
    begun, most = time.perf_counter(), 0
    out = None if told else subprocess.DEVNULL
    running = subprocess.Popen(command, cwd=ROOT, stdout=out, preexec_fn=None if group is None else group.enter)
    while True:
        ended, status, used = os.wait4(running.pid, os.WNOHANG)
        if ended:
            break
        most = max(most, anonymous(running.pid))
        if most > limit:
            os.kill(running.pid, signal.SIGKILL)
        time.sleep(0.02)
    peaks = {"anonymous": most, "resident": used.ru_maxrss << 10}
    if group is not None:
        peaks["cgroup"] = group.peak()
        group.remove()
    return os.waitstatus_to_exitcode(status), peaks, time.perf_counter() - begun


def uncache(folder: Path) -> None:
    """Drop the folder's files from the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Make, calibrate under the limit, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--bits", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--no-cgroup", action="store_true")
    parser.add_argument("--folder", default=None, help="where the checkpoint goes meanwhile")
    parser.add_argument("--limit-mb", type=int, default=(2 * EXPERT_BYTES + CONSTANT) // 10**6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="large-model-", dir=options.folder) as place:
        folder, run = Path(place) / "model", Path(place) / "run"
        size = make(folder, options.layers)
        limit = options.limit_mb * 10**6
        print(f"{options.layers} layers, {size / 1e9:.2f} GB; limit {limit / 1e9:.2f} GB: {size / limit:.2f} times.")
        command = [sys.executable, "-m", "mode_core", "calibrate", "--model", str(folder), "--out", str(run)]
        command += ["--max-memory", "400MB", "--offload-folder", str(Path(place) / "offload"), "--quiet", "--json"]
        command += ["--limit", str(options.samples), "--batch-size", str(options.samples)]
        command += ["--measure-bits", *map(str, options.bits)]
        uncache(folder)
        code, peaks, seconds = watched(command, limit, None if options.no_cgroup else Cgroup(limit))
        print(f"exit code {code}, {seconds:.0f} s. Peaks in GB:", {k: round(v / 1e9, 2) for k, v in peaks.items()})
        if code == 0:
            info = json.loads((run / "run.json").read_text(encoding="utf-8"))
            print(f"state {info['state']}, tokens {info['tokens']}, {info['seconds']:.0f} s of measuring.")


if __name__ == "__main__":
    main()
