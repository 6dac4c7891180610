"""The kill test in short: every verb is killed at random, and every reader opens what is left. See `tests.kills`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform == "win32", reason="killed processes are forks")
def test_killed_verbs_leave_what_every_reader_opens():
    """`python -m tests.kills 100` is the whole of it."""
    command = [sys.executable, "-m", "tests.kills", "7"]  # each verb once, however slow the machine is
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(json.loads(done.stdout).values()) == [7] + 7 * [1], done.stdout
