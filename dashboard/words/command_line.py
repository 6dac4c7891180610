"""The command line that does what a page does; no Streamlit here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from dashboard.state.choices import Choices

PROGRAM = ("python", "-m", "mode_core")


def export_command(
    now: Choices, target: str, run: str, folder: str, measured: Mapping[str, Any], trusted: bool = False
) -> str:
    """Two lines: the allocation as a file beside `folder`, then the export of it.

    `now` are the choices as this run can have them: its widths, its pins, and under a budget in MB the megabytes.
    `measured` are the settings that the run was measured with; what equals them is not said again.
    `trusted`: the model may run its own code.
    """
    kept = f"{folder}.allocation.json"
    rounding = [*_grid(now, measured), *_unless(now.quantizer == "rtn", "--quantizer", now.quantizer)]
    solve = [*PROGRAM, "allocate", "--run", run, *_importance(now), *_budget(now), *rounding, "--out", kept]
    write = [*PROGRAM, "export", "--run", run, "--allocation", kept, "--target", target, "--out", folder, *rounding]
    for name, bits in (("--attention-bits", now.attention_bits), ("--shared-bits", now.shared_bits)):
        write += _unless(bits is None, name, bits)
    write += _unless(not trusted, "--trust-remote-code")
    return shlex.join(solve) + "\n" + shlex.join(write)


def _importance(now: Choices) -> list[str]:
    given = ["--method", now.method, "--key-ratio", f"{now.key_ratio:.2f}", "--signal", now.signal]
    return [*given, "--vision-weight", f"{now.vision_weight:g}"]


def _budget(now: Choices) -> list[str]:
    in_mb = now.budget_unit == "MB"  # six places: to the byte, so that the same bits are found
    budget = ["--budget-mb", f"{now.megabytes:.6f}"] if in_mb else ["--average-bits", f"{now.average_bits:g}"]
    pins = [text for bank, expert, bits in now.pins for text in ("--pin", f"{bank}.{expert}={bits}")]
    return [*budget, "--bits", *map(str, now.widths), "--scope", now.scope, "--unit", now.unit, *pins]


def _grid(now: Choices, measured: Mapping[str, Any]) -> list[str]:
    as_measured = now.symmetric in (None, bool(measured["symmetric"]))
    return [
        *_unless(now.group_size in (None, int(measured["group_size"])), "--group-size", now.group_size),
        *_unless(as_measured, "--no-asymmetric" if now.symmetric else "--asymmetric"),
    ]


def _unless(said: bool, *words: object) -> list[str]:
    """The words where they say something new."""
    return [] if said else [str(word) for word in words]
