"""Two processes at one run, one export or one comparison: the second is refused in words, and nothing is lost."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mode_core.allocation import Allocation
from mode_core.errors import BusyError, RunError
from mode_core.export import export
from mode_core.export import folder as export_folder
from mode_core.export.folder import restore, whole_folder
from mode_core.files import PART, atomic_write, part_prefix, sweep
from mode_core.runs.run import Run
from tests.synthetic import synthetic_statistics

ROOT = Path(__file__).resolve().parents[2]
GONE = 2**22 + 12345  # beyond the largest process number of Linux
ALLOCATION = Allocation({"layers.0.x": np.array([3])}, (3,), 0.0, 0.0, False, 0.0, 3.0)


def in_another_process(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def held(tmp_path):
    """A run that another process holds, and that process."""
    run = Run.create(tmp_path / "mine")
    run.write_statistics(synthetic_statistics(banks=1, experts=2, tokens=50), state="half done")
    code = (
        "from mode_core.runs.run import Run\n"
        f"with Run.open({str(run.path)!r}).locked():\n    print('held', flush=True)\n    input()"
    )
    other = in_another_process(code)
    assert other.stdout.readline() == "held\n"
    yield run, other
    other.kill()
    other.wait()


def test_the_second_is_refused_by_the_process_that_has_it(held):
    run, other = held
    words = rf"The run .*mine is being written by process {other.pid} on {socket.gethostname()}\. Wait until"
    for act in (lambda: run.locked().__enter__(), lambda: run.rename(run.path.with_name("b")), run.remove):
        with pytest.raises(BusyError, match=words):
            act()
    assert Run.open(run.path).statistics is not None
    other.kill()
    other.wait()
    run.rename(run.path.with_name("b"))  # a killed one's lock gives way
    assert Run.open(run.path).path.name == "b"
    assert sorted(path.name for path in run.path.iterdir()) == ["run.json", "statistics.safetensors"]
    run.remove()
    assert not run.path.exists()


def test_what_the_first_wrote_is_seen_by_the_next(tmp_path):
    run = Run.create(tmp_path / "run")
    assert run.statistics is None
    made = synthetic_statistics(banks=1, experts=2, tokens=50)
    Run.open(run.path).write_statistics(made, state="done")
    with run.locked(), run.locked():
        assert run.state == "done" and run.statistics.digest() == made.digest()


def test_one_of_many_that_create_a_run_wins(tmp_path):
    for turn in range(5):
        path, gate, won, lost = tmp_path / str(turn), threading.Barrier(6), [], []

        def create(path=path, gate=gate, won=won, lost=lost):
            gate.wait()
            try:
                won.append(Run.create(path))
            except (RunError, BusyError) as refused:
                lost.append(str(refused))

        threads = [threading.Thread(target=create) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1 and len(won) + len(lost) == 6
        assert not won or Run.open(path).state == "begun"


def test_where_nothing_was_measured_the_same_command_begins_anew(tmp_path):
    run = Run.create(tmp_path / "run")
    with pytest.raises(RunError, match="is not empty"):
        Run.create(run.path)  # its process still lives
    run.write_info({**run.info, "process": {"pid": GONE, "host": socket.gethostname()}})
    (run.path / ".spare").write_bytes(b"x")
    assert Run.create(run.path).info["process"]["pid"] == os.getpid()
    assert [path.name for path in run.path.iterdir()] == ["run.json"]
    run.write_statistics(synthetic_statistics(banks=1, experts=2, tokens=50), state="half done")
    assert "process" not in Run.open(run.path).info
    with pytest.raises(RunError, match="is not empty"):
        Run.create(run.path)


def test_a_failure_before_anything_was_measured_leaves_nothing(tmp_path):
    run = Run.create(tmp_path / "run")
    with pytest.raises(RuntimeError), run.measuring():
        raise RuntimeError
    assert not run.path.exists()
    run = Run.create(tmp_path / "run")
    with pytest.raises(RuntimeError), run.measuring():
        run.write_statistics(synthetic_statistics(banks=1, experts=2, tokens=50), state="half done")
        raise RuntimeError
    assert Run.open(run.path).state == "half done"


def test_parts_of_killed_processes_are_swept_and_those_of_living_ones_stay(tmp_path):
    run = Run.create(tmp_path / "run")
    (run.path / "allocations").mkdir()
    living = part_prefix("run.json") + f"x{PART}"
    dead = living.replace(f"-{os.getpid()}.", f"-{GONE}.")
    for place in (run.path, run.path / "allocations"):
        for name in (living, dead):
            (place / name).write_text("half")
    Run.open(run.path)
    assert [path.name for path in run.path.rglob(f".*{PART}")] == [living] * 2
    assert [path.name for path in Run.files(run.path)] == ["run.json"], "neither travels in a zip"


def test_a_write_that_fails_names_the_file_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left") as failed:
        atomic_write(tmp_path / "run.json", "{}")
    assert failed.value.filename == str(tmp_path / "run.json") and not list(tmp_path.iterdir())
    sweep(tmp_path)


def test_the_second_export_into_a_folder_is_refused(tmp_path):
    code = (
        "from pathlib import Path\nfrom mode_core.export.folder import whole_folder\n"
        f"with whole_folder(Path({str(tmp_path / 'out')!r})):\n    print('held', flush=True)\n    input()"
    )
    other = in_another_process(code)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=rf"The export .*out is being written by process {other.pid} on"):
        export("table", ALLOCATION, tmp_path / "out")
    other.kill()
    other.wait()
    export("table", ALLOCATION, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "what the killed one left is gone"


@pytest.mark.parametrize("exchanging", [True, False])
def test_a_reader_never_finds_an_export_missing(tmp_path, monkeypatch, exchanging):
    if not exchanging:
        monkeypatch.setattr(export_folder, "_exchanged", lambda *_: False)
    elif sys.platform != "linux":
        pytest.skip("exchanging renames are Linux' own")
    out, missing, ended = tmp_path / "out", [], threading.Event()
    export("table", ALLOCATION, out)

    def look():
        while not ended.is_set():
            try:
                json.loads((out / "manifest.json").read_text())
            except FileNotFoundError:
                missing.append(1)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(30):
        export("table", ALLOCATION, out)
    ended.set()
    reader.join()
    assert not exchanging or not missing
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_killed_between_two_renames_comes_back(tmp_path):
    export("table", ALLOCATION, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    restore(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / "manifest.json").is_file()
