"""`pip install .`: what is installed works away from the checkout, and says the same version and needs once."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import mode_core

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=cwd, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of packages that `pip install .` fills, from a copy without caches and git."""
    source, target = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("installed")
    kept = ("mode_core", "dashboard", "pages", "sample_data")
    skip = shutil.ignore_patterns("__pycache__", "screenshots", "checkpoints")
    for name in kept:
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile")
    run(*pip, "--target", str(target), str(source), cwd=source)
    return target


def test_the_command_line_finds_what_is_bundled(installed: Path, tmp_path: Path):
    assert not (installed / "pages").exists() and not (installed / "sample_data").exists()
    (version,) = installed.glob("mode_dashboard-*.dist-info")
    assert version.name == f"mode_dashboard-{mode_core.__version__}.dist-info"
    assert (installed / "bin" / "mode-core").is_file()
    ask = "from mode_core import bundled; print(bundled.RUN)"
    bundled = run("-c", ask, cwd=tmp_path, PYTHONPATH=str(installed)).strip()
    assert Path(bundled).is_relative_to(installed)
    command = ("-m", "mode_core", "allocate", "--run", bundled, "--out", "three.json", "--average-bits", "3")
    assert "3" in run(*command, cwd=tmp_path, PYTHONPATH=str(installed))
    assert (tmp_path / "three.json").is_file()


def test_the_dashboard_opens_away_from_the_checkout(installed: Path, tmp_path: Path):
    ask = (
        "from pathlib import Path\nimport dashboard\nfrom streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file(Path(dashboard.__file__).with_name('app.py'), default_timeout=60).run()\n"
        "assert not app.exception, app.exception\nprint([each.value for each in app.title])"
    )
    assert "Experts" in run("-c", ask, cwd=tmp_path, PYTHONPATH=str(installed))


def test_what_is_needed_is_pinned_for_the_two_commands():
    """Every package that pyproject.toml asks for stands in requirements.txt with the version that is tested."""
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    asked = [*PROJECT["dependencies"], *(name for extra in PROJECT["optional-dependencies"].values() for name in extra)]
    names = {re.match(r"[\w.-]+", name)[0] for name in asked} - {"mode-dashboard"}
    assert names <= pinned, f"asked for and not pinned: {sorted(names - pinned)}"
    assert pinned - names <= {"setuptools"}, f"pinned and not asked for: {sorted(pinned - names - {'setuptools'})}"


def test_what_is_imported_is_asked_for():
    """Every package whose modules the library or the dashboard imports by name is one that pyproject.toml asks for."""
    owners = packages_distributions()
    own = {"mode_core", "dashboard", "pages", *sys.stdlib_module_names}
    found = {name for place in ("mode_core", "dashboard", "pages") for name in imports(ROOT / place)} - own
    asked = [*PROJECT["dependencies"], *(name for extra in PROJECT["optional-dependencies"].values() for name in extra)]
    names = {plain(re.match(r"[\w.-]+", name)[0]) for name in asked}
    strange = {name for name in found if not names & {plain(owner) for owner in owners.get(name, [name])}}
    assert not strange, f"imported and not asked for: {sorted(strange)}"


def imports(folder: Path) -> set[str]:
    """Top-level names of all modules that the files of a folder import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def plain(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
