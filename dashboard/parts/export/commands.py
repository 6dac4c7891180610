"""The command lines that do the same as the screen, and what serves the result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import streamlit as st

from dashboard.parts.calibrate import trust
from dashboard.state import address, current_run, folders, solving, traffic
from mode_core.allocation import Allocation
from mode_core.export import Target

PROGRAM = ("python", "-m", "mode_core")


def folder_of(target: Target, chosen: Allocation) -> Path:
    """Where an export of the open run is written."""
    return folders.exports_folder() / f"{current_run.run_entry().name}-{target.name}-{chosen.average_bits:.2f}bit"


def command(target: Target, folder: Path, told: Mapping[str, str] | None = None) -> str:
    """The command lines that write the same: the allocation as a file beside `folder`, then the export of it, `told`
    what the form is told beside the bits."""
    asked, quantizer = solving.request(), replace(address.choices().quantizer, samples=solving.quantizer().samples)
    run, out = folders.relative(current_run.run_entry().path), folders.relative(folder)
    kept = f"{out}.allocation.json"
    solve = ["allocate", "--run", run, *asked.to_arguments(), *quantizer.of_experts.to_arguments(), "--out", kept]
    solve += ["--traffic", folders.relative(traffic.file_of(asked.traffic))] if asked.traffic else []
    write = ["export", "--run", run, "--allocation", kept, "--target", target.name, "--out", out]
    write += quantizer.to_arguments()
    write += [word for name, value in (told or {}).items() for word in (f"--{name.replace('_', '-')}", value)]
    if target.needs_model and trust.may_run(current_run.run().model_source):
        write.append("--trust-remote-code")
    return "\n".join(shlex.join([*PROGRAM, *words]) for words in (solve, write))


def serving(target: Target, folder: Path) -> str:
    """The command that serves what was written, with room for the chosen context; empty where Python is the way."""
    return target.run.format(folder=shlex.quote(folders.relative(folder)), context=address.choices().context)


def part(target: Target, chosen: Allocation) -> None:
    """Both, to be copied."""
    folder = folder_of(target, chosen)
    st.caption("Write it, in the repository's folder (Export does the same by a button):")
    st.code(command(target, folder), language=None, wrap_lines=True)  # the colours of shell code are too faint for some
    if line := serving(target, folder):
        st.caption(f"Run it. {target.engines}")
        st.code(line, language=None, wrap_lines=True)
    else:
        st.caption(f"The folder's README has the lines of Python that load it. {target.engines}")
