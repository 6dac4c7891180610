"""Code in forks of one process that has imported torch and transformers, which takes five seconds of a core: a fork
shares nothing else with the tests or with another fork, and what it imports besides stays in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SERVER = """
import json, os, sys, traceback
from mode_core.models import ensure_torchvision
ensure_torchvision()
from transformers import AutoModelForImageTextToText, PreTrainedModel, Qwen3VLMoeForConditionalGeneration
for line in sys.stdin:
    code, sys.argv, written = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            said = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1), os.dup2(said, 2)
            exec(code, {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """The process, and what it is asked to do."""

    def __init__(self, process: subprocess.Popen, place: Path):
        self._process, self._written = process, place / "said.txt"

    def run(self, code: str, *arguments: object, status: int = 0) -> str:
        """Execute `code` with these arguments in `sys.argv[1:]`; what it printed.

        Raises:
            AssertionError: it ended with another exit status (negative: by that signal); with what it printed last.
        """
        self._process.stdin.write(json.dumps([code, ["-c", *map(str, arguments)], str(self._written)]) + "\n")
        self._process.stdin.flush()
        ended, said = int(self._process.stdout.readline()), self._written.read_text(errors="replace")
        assert ended == status, f"ended with {ended}:\n{said[-3000:]}"
        return said


@contextmanager
def forking(place: Path) -> Iterator[Forks]:
    """Such a process for as long as the block lasts; what forks print is kept in a file of the folder `place`."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield Forks(process, place)
        process.stdin.close()
