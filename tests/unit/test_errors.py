"""One family of errors: the command line tells whatever the library refuses, and the disk's own with path."""

import errno
import importlib
import os
from pathlib import Path

import pytest

import mode_core
from mode_core.cli.main import main
from mode_core.errors import ModeError, in_words
from mode_core.jobs import Cancelled

ROOT = Path(mode_core.__file__).parent


def test_every_error_of_the_library_is_one_of_the_family():
    names = (path.relative_to(ROOT.parent).with_suffix("").parts for path in ROOT.rglob("*.py"))
    modules = [importlib.import_module(".".join(parts)) for parts in names if parts[-1] != "__main__"]
    ours = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith("mode_core")
    }
    assert len(ours) > 12
    assert {error.__name__ for error in ours if not issubclass(error, ModeError)} == {Cancelled.__name__}


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "Make room there"), (errno.EACCES, "Get the right"), (errno.EROFS, "may be written")],
)
def test_the_disk_is_told_with_path_and_way_out(code, words):
    told = in_words(OSError(code, os.strerror(code), "runs/mine/run.json"))
    assert told.startswith(f"runs/mine/run.json: {os.strerror(code)}. ") and words in told


def test_a_fault_of_ours_is_no_refusal(monkeypatch):
    """A KeyError of a library is not dressed up as something that the person did wrong."""
    monkeypatch.setattr("mode_core.cli.allocate.Run.open", lambda path: {}["no such"])
    with pytest.raises(KeyError):
        main(["allocate", "--run", "x", "--quiet"])
