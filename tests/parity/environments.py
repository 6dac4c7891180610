"""Virtual environments that add a few packages to the one that runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PLACE = "MODE_PARITY"
ROOT = Path(__file__).resolve().parents[2]


FIRST = """\
import sys


class First:  # torchvision's operators are declared before anything imports it, in every process
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and "mode_core.models.vision_ops" not in sys.modules:  # else who imported it does so
            sys.meta_path.remove(self)
            from mode_core.models.vision_ops import ensure_torchvision

            ensure_torchvision()


sys.meta_path.insert(0, First())
sys.path.append(ROOT)
"""


def python_with(name: str, *packages: str, dependencies: bool = False, without: tuple[str, ...] = ()) -> Path:
    """The interpreter of an environment that has this one's packages and these, installed without dependencies.

    With `dependencies`, those that this environment lacks or has in another version are installed too, `without` some.

    Skips the test unless the environment variable MODE_PARITY names a folder for it.
    """
    place = os.environ.get(PLACE)
    if not place:
        pytest.skip(f"needs {', '.join(packages[:1])} in an environment of its own; set {PLACE}=<folder> to make it")
    folder = Path(place) / name
    python, done = folder / "bin" / "python", folder / "made"
    if done.is_file() and done.read_text() == "\n".join(packages):
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    own = next((folder / "lib").glob("python*/site-packages"))
    (own / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-U", "pip", "setuptools", "wheel"], check=True)
    subprocess.run([*pip, *([] if dependencies else ["--no-deps"]), *packages], check=True)
    if without:
        subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", *without], check=True)
    (own / "sitecustomize.py").write_text(FIRST.replace("ROOT", repr(str(ROOT))))
    done.write_text("\n".join(packages))
    return python


def run_in(python: Path, code: str, *arguments: str | Path) -> str:
    """Run code in that environment, from the repository's folder; its output."""
    command = [str(python), "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout
