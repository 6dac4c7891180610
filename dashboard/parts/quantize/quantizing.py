"""Parts of the Quantize page: the quantizer's settings, what is measured on, and where answers part."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard.parts.calibrate import sample_picker
from dashboard.state import address, current_run, folders, solving
from mode_core.export.auto_round_recipe import MOST_SAMPLES
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.runs.run import Run, portable_source
from mode_core.samples import Sample

GROUPS = (32, 64, 128, -1)
WIDTHS = (16, 8, 6, 5, 4, 3, 2)  # 16: untouched
AROUND = {"Attention": "attention_bits", "Shared experts": "shared_bits"}


def settings_part() -> None:
    """Quantizer, grid, and the widths of what surrounds the experts, in one row."""
    method, group, grid, attention, shared = st.columns([1.3, 1, 1, 1, 1], vertical_alignment="bottom")
    about = "\n\n".join(f"**{kind.title}**: {kind.words}" for kind in QUANTIZERS.values())
    chosen = method.selectbox(
        "Quantizer", list(QUANTIZERS), format_func=lambda name: QUANTIZERS[name].title, help=about,
        **address.bind("quantizer"),
    )  # fmt: skip
    measured = current_run.statistics().settings
    usual = int(measured["group_size"])
    group.selectbox(
        "Group size", sorted({*GROUPS, usual}, key=lambda size: (size < 0, size)),
        format_func=lambda size: ("whole row" if size == -1 else str(size)) + (" (measured)" if size == usual else ""),
        help="Neighbouring weights that share one scale. Sensitivity was measured with the one marked so.",
        **address.bind("group_size", shown=lambda size: usual if size is None else size,
                       meant=lambda size: None if size == usual else size),
    )  # fmt: skip
    plain = bool(measured["symmetric"])
    grid.selectbox(
        "Grid", (True, False), format_func=lambda yes: "symmetric" if yes else "with zero points",
        help="With zero points all levels are used at 2 bits, for a little more memory.",
        disabled=QUANTIZERS[chosen].real_zeros,
        **address.bind("symmetric", shown=lambda yes: plain if yes is None else yes,
                       meant=lambda yes: None if yes == plain else yes),
    )  # fmt: skip
    around_experts((attention, shared))
    st.caption(QUANTIZERS[chosen].words)


def around_experts(places: Sequence) -> None:
    """Widths of what surrounds the routed experts, each in its place."""
    for place, (name, field) in zip(places, AROUND.items(), strict=True):
        place.selectbox(
            name, WIDTHS,
            format_func=lambda bits: "untouched" if bits == 16 else f"{bits} bits" + (" (paper)" if bits == 4 else ""),
            help="Rounded in uniform bits too; the experts' budget does not count it. The released code takes 4.",
            **address.bind(field, shown=lambda bits: bits or 16, meant=lambda bits: None if bits == 16 else bits),
        )  # fmt: skip


def calibration_samples() -> list[Sample] | None:
    """What the chosen quantizer looks at of the bundled calibration samples; None where it looks at none."""
    quantizer = solving.quantizer()
    return sample_picker.bundled_calibration(quantizer.samples) if quantizer.kind.needs_samples else None


def own_samples(run: Run) -> list[Sample] | None:
    """The samples that a run was measured on, where those are bundled ones; no other place is read for a visitor."""
    origin = run.info.get("samples", {}).get("origin", {})
    bundled = origin.get("path") == portable_source(folders.CALIBRATION)
    return sample_picker.bundled_calibration(origin.get("limit") or MOST_SAMPLES) if bundled else None
