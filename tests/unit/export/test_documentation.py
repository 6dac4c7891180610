"""Every target names tests that exist; the commands and settings that the README shows are taken."""

import json
import re
import shlex
from pathlib import Path

from mode_core.cli.main import build_parser
from mode_core.export import TARGETS
from mode_core.quantization.widths import UNTOUCHED
from tests.documentation import PROVEN_BY, widths

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "mode_core" / "export" / "README.md").read_text(encoding="utf-8")


def test_every_target_names_tests_that_exist_and_speak_of_it() -> None:
    assert list(PROVEN_BY) == list(TARGETS)
    for name, files in PROVEN_BY.items():
        assert files, name
        for file in files:
            path = ROOT / file if "/" in file else ROOT / "tests" / "unit" / "export" / file
            text, target = (
                path.read_text(encoding="utf-8"),
                name.removesuffix("_config"),
            )  # read out of the checkpoint too
            assert re.search(rf"\b{target}\b|\b{TARGETS[name].write.__name__}\b", text), (name, file)


def test_widths_are_told_as_ranges() -> None:
    assert widths((2, 3, 4, 8, UNTOUCHED)) == "2–4, 8" and widths((3,)) == "3"
    assert widths((0, 1, 2, 3, 4, 5, 6, 8, 16)) == "all" and widths((1, 2, 3, 4, 5, 6, 8)) == "all but 0"


def test_commands_and_settings_are_taken() -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
    bash = "\n".join(text.replace("\\\n", " ") for kind, text in blocks if kind == "bash")
    commands = [line for line in bash.splitlines() if "-m mode_core" in line]
    assert len(commands) == 8
    for line in commands:
        build_parser().parse_args(shlex.split(line, comments=True)[3:])
    (settings,) = [json.loads(text) for kind, text in blocks if kind == "json"]
    assert set(settings) == {"model", "data"}
    for folder in re.findall(r"--target dequantized --out exports/([\w.-]+)", README):
        assert re.search(r"-A\d+B", folder)  # how both tools tell a MoE checkpoint
