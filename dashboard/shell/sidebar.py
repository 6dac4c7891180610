"""What is on the screen: which run, model and samples, how finished, and what is out of date."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, estimating, folders, process_wide, solving
from dashboard.words.plain import plain
from mode_core.errors import AllocationError, FileError, ImportanceError
from mode_core.modalities import RANKED, VISION_TOKENS
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics

_ABOUT = (
    "Bits for every expert of a multimodal mixture-of-experts model, after [MODE](https://arxiv.org/abs/2606.17118)."
)


def draw() -> st.delta_generator.DeltaGenerator:
    """The sidebar of every page; returns the place of `notes`."""
    st.logo(Path(__file__).parents[1] / "logo.svg", size="large")
    with st.sidebar:
        slot = st.container()
        if address.watched() and process_wide.watched_job() is None:
            address.forget_job()
        try:
            _run_picker()
            _facts(current_run.run(), current_run.statistics())
            for why in estimating.damaged():
                st.warning(f"Left out: damaged: {plain(why)}", icon=":material/broken_image:")
            _stale()
        except folders.NoRunError as missing:
            st.caption(plain(missing))
        except (AllocationError, ImportanceError):
            st.caption("The settings do not fit this run.")
        except FileError as damaged:
            st.caption(f"This run cannot be read. {plain(damaged)}")
        if st.button("Undo the last setting", key="undo", icon=":material/undo:", type="tertiary"):
            st.toast(f"Undone: {found}." if (found := address.undo()) else "No setting was changed yet.")
            st.rerun()
        jobs_panel.sidebar()
        st.caption(_ABOUT)
    return slot


def notes(slot: st.delta_generator.DeltaGenerator) -> None:
    """What of the address makes no sense: known in whole when the page has asked for all that it reads."""
    for note in address.notes():
        slot.warning(plain(note), icon=":material/link_off:")


def _run_picker() -> None:
    entries = folders.runs()
    if not entries:
        raise folders.NoRunError("There is no run yet. Calibrate a model on some samples; the result opens by itself.")
    labels = {entry.name: entry.label for entry in entries}
    key, wanted = "widget:run", address.wanted_run() or entries[0].name
    labels.setdefault(wanted, f"{wanted} (missing)")
    st.session_state[key] = wanted
    st.selectbox(
        "Run",
        list(labels),
        key=key,
        format_func=labels.get,
        on_change=lambda: current_run.open_run(st.session_state[key]),
        help="The bundled example, and the runs made here.",
    )


def _facts(run: Run, statistics: ExpertStatistics) -> None:
    """Model, samples and state of the open run, in a few lines."""
    first, info = next(iter(statistics)), run.info
    tokens = {name: first.tokens_by_fold(name).sum() for name in statistics.modalities}
    seen = [f"{100 * tokens[n] / max(1.0, sum(tokens.values())):.0f} % {n}" for n in RANKED if n in tokens]
    if videos := info.get("video_tokens"):
        seen[0] += f" ({100 * videos / max(1, info['tokens'][VISION_TOKENS]):.0f} % of these of video frames)"
    experts = " or ".join(str(count) for count in sorted({bank.shape.experts for bank in statistics}))
    about, measured = info.get("samples", {}), len(statistics.samples)  # merged or imported runs tell less
    given, digest = about.get("given", measured), str(about.get("digest", ""))[:8].replace("`", "")
    digest = f" (`{digest}`)" * bool(digest)
    lines = [
        f"**Model** {plain(_model_name(run))}",
        f"{len(statistics.banks)} banks × {experts} experts, top-{first.shape.top_k}",
        f"**From** {plain(origin)}"
        if (origin := statistics.settings.get("origin"))
        else f"**Samples** {measured:,}" + (f" of {given:,}" if measured != given else "") + digest,
        f"{sum(tokens.values()):,.0f} tokens, {', '.join(seen)}",
        f"**State** {plain(run.state)}" + (f", measured in {info['seconds']:.0f} s" if "seconds" in info else ""),
    ]
    if (served := current_run.profile()) is not None:  # on every page, since all follow them
        lines.append(f"**Frequencies** of the traffic {plain(served.name)}, not of these samples")
    st.markdown("  \n".join(lines))
    if info.get("refused"):
        with st.expander(f"{len(info['refused'])} samples were refused"):
            st.markdown(
                "\n".join(f"- {plain(entry['sample'])}: {plain(entry['reason'])}" for entry in info["refused"][:50])
            )
    if not statistics.settings.get("sensitivity", True):
        st.warning("Sensitivity was not measured in this run; allocations rest on the weights alone.")


def _model_name(run: Run) -> str:
    """The bundled model by that name, another one by its own."""
    bundled = run.model_source == str(folders.BUNDLED_MODEL)
    return (
        "bundled, a small Qwen3-VL-MoE" if bundled else str(current_run.statistics().settings.get("model", "unknown"))
    )


def _stale() -> None:
    """Say where a measured result no longer belongs to the settings."""
    known = process_wide.measurements()
    if known and all(measured.fingerprint != solving.fingerprint() for measured in known):
        st.caption(":material/history: Measured results are out of date: the settings have changed since.")
