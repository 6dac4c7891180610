"""What the README shows is executed: its two commands exist as CI uses them, its snippets and verbs run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mode_core.cli import main
from tests.benchmarks.__main__ import commands

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    """The code block that follows `<!-- mark -->`."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no code block after <!-- {mark} -->"
    return found.group(1).strip()


@pytest.fixture
def workplace(tmp_path: Path, bundled_run) -> Path:
    """A folder that looks like the repo's, where what the README's commands write does no harm."""
    for name in ("sample_data", "mode_core"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_the_two_commands_set_up_alike():
    dashboard, tests = block("command: dashboard"), block("command: tests")
    assert dashboard.split("&&")[:2] == tests.split("&&")[:2]
    assert dashboard.endswith("streamlit run dashboard/app.py")
    assert (ROOT / "dashboard" / "app.py").is_file()
    assert tests.endswith("-m pytest -n 2")


def test_every_link_and_picture_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), f"README.md links to {target}, which is not there"


def test_the_contributors_page_names_what_is_there():
    text = (ROOT / "mode_core" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+(?:\.py|\.md|/))`", text))
    assert len(named) > 50
    assert not {name for name in named if not (ROOT / name).exists() and not (ROOT / "mode_core" / name).exists()}
    assert len(re.findall(r"^\| (?:add|change|read) ", text, re.M)) == 14


def test_every_benchmark_of_the_readmes_is_there():
    every = commands()
    missing = [name for name in every if not (ROOT / "tests/benchmarks" / f"{name}.py").is_file()]
    assert not missing
    assert "--large --limit 4 --rounds 3" in every["calibrate_overhead"] and every["sessions"] == [
        "--banks 48 --people 1 5 10 20 40 60"
    ]


def test_the_python_snippet_runs(workplace: Path):
    done = subprocess.run(
        [sys.executable, "-c", block("snippet: python")], capture_output=True, text=True, cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("True"), done.stdout


def test_the_road_of_commands_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """In this process, which has the model libraries already; the first test of `test_install` starts one."""
    monkeypatch.chdir(workplace)
    for line in block("commands: road").splitlines():
        python, module, name, *command = line.split()
        assert [python, module, name] == ["python", "-m", "mode_core"]
        if "calibrate" in command:
            command += ["--limit", "8"]  # the whole set is calibrated when the bundled run is made
        assert main([*command, "--quiet"]) == 0, f"{line}\n{capsys.readouterr().err}"
        assert "peak memory" in capsys.readouterr().out
    assert (workplace / "exports" / "bits").is_dir()
