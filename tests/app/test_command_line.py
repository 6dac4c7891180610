"""The command line that the Export page prints says, to the library's own parser, what was chosen."""

from __future__ import annotations

import argparse
import shlex

import pytest
from dashboard.words.command_line import export_command

from dashboard.state.choices import Choices
from mode_core.cli.main import build_parser

MEASURED = {"group_size": 32, "symmetric": True}


def parsed(now: Choices, measured=MEASURED) -> tuple[argparse.Namespace, argparse.Namespace]:
    """Both lines as the command line reads them."""
    solve, write = export_command(now, "table", "runs/my run", "exports/it", measured).splitlines()
    assert solve.startswith("python -m mode_core ") and write.startswith("python -m mode_core ")
    return tuple(build_parser().parse_args(shlex.split(line)[3:]) for line in (solve, write))


def test_choices_come_out_of_the_parser_as_they_went_in():
    now = Choices(
        key_ratio=0.35, signal="diversity", method="frequency", vision_weight=0.5, average_bits=2.25, scope="model",
        unit="expert_projection", widths=(2, 4), pins=((0, 3, 4), (1, 7, 2)), quantizer="hqq", group_size=64,
        symmetric=False, attention_bits=4, shared_bits=8,
    )  # fmt: skip
    solve, write = parsed(now)
    assert (solve.verb, write.verb) == ("allocate", "export")
    for name in ("key_ratio", "signal", "method", "vision_weight", "average_bits", "scope", "unit", "quantizer"):
        assert getattr(solve, name) == getattr(now, name), name
    assert (solve.bits, solve.pin, solve.budget_mb) == ([2, 4], ["0.3=4", "1.7=2"], None)
    assert (solve.run, write.run, write.out, write.target) == ("runs/my run", "runs/my run", "exports/it", "table")
    assert solve.out == write.allocation == "exports/it.allocation.json"
    for line in (solve, write):
        assert (line.group_size, line.asymmetric, line.quantizer) == (64, True, "hqq")
    assert (write.attention_bits, write.shared_bits) == (4, 8)


@pytest.mark.parametrize("megabytes", [0.123457, 31_234.567891, 17.0])
def test_a_budget_in_megabytes_is_said_to_the_byte(megabytes: float):
    solve, _ = parsed(Choices(budget_unit="MB", megabytes=megabytes))
    assert solve.average_bits is None
    assert round(1e6 * solve.budget_mb) == round(1e6 * megabytes)


def test_what_equals_the_measured_grid_is_not_said_again():
    for now in (Choices(), Choices(group_size=32, symmetric=True)):
        for line in parsed(now):
            assert (line.group_size, line.asymmetric, line.quantizer) == (None, None, "rtn")
    whole_rows = parsed(Choices(group_size=-1))
    assert [line.group_size for line in whole_rows] == [-1, -1]


def test_a_symmetric_grid_can_be_asked_of_a_run_that_was_measured_with_zero_points():
    for line in parsed(Choices(symmetric=True), {"group_size": 32, "symmetric": False}):
        assert line.asymmetric is False
