"""dashboard/deploy/Dockerfile: what it copies is there and enough, and its command starts the dashboard as it means to.

There is no docker here, so the file is read; the installing itself is what `test_install.py` runs.
"""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "dashboard" / "deploy"
TEXT = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def of(word: str) -> list[str]:
    return [rest for first, rest in STEPS if first == word]


def test_everything_that_is_copied_exists_and_suffices_to_install():
    copied = {}
    for step in of("COPY"):
        *sources, target = [word for word in shlex.split(step) if not word.startswith("--")]
        copied |= dict.fromkeys(sources, target)
    for source, target in copied.items():
        assert (ROOT / source).exists(), source
        assert target == ("./" if (ROOT / source).is_file() else source)
    needed = {"mode_core", "dashboard", "pages", "sample_data", "pyproject.toml", "README.md", "LICENSE"}
    assert needed | {"requirements.txt"} == set(copied)  # those of tests/test_install.py, and the pins
    (install,) = [step for step in of("RUN") if "pip install" in step]
    extras = re.search(r'"\.\[([\w,]+)\]"', install)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"]) and "dashboard" in extras


def test_it_runs_as_user_1000_on_the_port_that_the_space_is_told():
    words = [word for word, _ in STEPS]
    assert of("USER") == ["user"] and "--uid 1000 user" in of("RUN")[0]
    assert words.index("USER") < words.index("COPY")
    head = yaml.safe_load((DEPLOY / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert head["sdk"] == "docker" and [str(head["app_port"])] == of("EXPOSE") == ["8501"]


def test_its_command_starts_the_dashboard_for_the_space_s_own_name(tmp_path):
    """Run by a shell, with a program in place of the dashboard's that tells what it was given."""
    stand_in = tmp_path / "mode-dashboard"
    assert stand_in.name in PROJECT["scripts"]
    stand_in.write_text('#!/bin/sh\necho "$MODE_HOSTS|$*"\n')
    stand_in.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SPACE_HOST": "owner-mode.hf.space"}
    (command,) = of("CMD")
    for more, host in (({}, "owner-mode.hf.space"), ({"MODE_HOSTS": "mine.example"}, "mine.example")):
        told = subprocess.run(["sh", "-c", command], env=environment | more, capture_output=True, text=True, check=True)
        assert told.stdout == f"{host}|--server.address 0.0.0.0 --server.port 8501\n"


def test_it_is_closed_unless_opened():
    from dashboard.shell.access import Token
    from dashboard.state import model_sources

    (given,) = [step for step in of("ENV") if "MODE_ACCESS" in step]
    environment = dict(word.split("=", 1) for word in shlex.split(given))
    assert set(environment) == {"MODE_RUNS", "MODE_EXPORTS", "MODE_MODELS", "MODE_ACCESS"}
    assert Token.of_this_server(environment) is not None
    assert environment[model_sources.ROOTS] == ""  # nothing but the bundled model
    assert f"mkdir -p {of('WORKDIR')[0]} {of('WORKDIR')[1]}" in of("RUN")[1]  # or they were root's
