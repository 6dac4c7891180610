"""The table of proofs names every target and files that exist; the commands and settings shown are taken."""

import json
import re
import shlex
from pathlib import Path

from mode_core.cli.main import build_parser
from mode_core.export import TARGETS
from mode_core.quantization.widths import UNTOUCHED

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "mode_core" / "export" / "README.md").read_text(encoding="utf-8")
PROOFS = README.split("## Targets and their proofs")[1].split("### ")[0]
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", PROOFS, re.MULTILINE)}
UNITS = {
    "expert × projection": "expert_projection",
    "expert": "expert",
    "layer × projection": "projection",
    "layer": "layer",
}


def widths_of(text: str) -> set[int]:
    """`2–6, 8` → {2, 3, 4, 5, 6, 8}."""
    parts = [part.split("–") for part in text.split(", ")]
    return {width for part in parts for width in range(int(part[0]), int(part[-1]) + 1)}


def test_every_target_has_its_row() -> None:
    assert list(ROWS) == [*TARGETS] or set(ROWS) == set(TARGETS)
    for name, (unit, widths, proof) in ROWS.items():
        if unit != "–":  # an importance matrix has no widths
            assert UNITS[unit] == TARGETS[name].finest_unit
        if re.fullmatch(r"[\d–, ]+\d", widths):
            assert widths_of(widths) == set(TARGETS[name].widths) - {UNTOUCHED}, name
        files = re.findall(r"`((?:tests/parity/)?test_\w+\.py)`", proof)
        assert files, f"{name}: no test is named"
        for file in files:
            place = ROOT if "/" in file else ROOT / "tests" / "unit" / "export"
            assert (place / file).is_file(), file


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
