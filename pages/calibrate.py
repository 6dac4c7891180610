"""Calibrate: a model and samples in, a run out. The model is run once here; everything after it is arithmetic."""

import re
import time

import streamlit as st

from dashboard import jobs_panel, model_picker, run_list, sample_picker, session
from dashboard.forecast import estimate_memory, tokens_per_second
from dashboard.work import calibrate_run, estimate_tokens, is_hub_id
from mode_core.calibration import SIGNALS, CalibrationSettings
from mode_core.models import ModelError
from mode_core.samples import SampleError

WIDTHS = (0, 1, 2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128, -1)
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


def settings_part() -> CalibrationSettings | None:
    """What to measure; the paper's values are the defaults and are named."""
    with st.expander("Settings (the paper's are set)"):
        widths = st.pills(
            "Widths to measure, bits", WIDTHS, default=(1, 2, 3, 4), selection_mode="multi", key="calibrate:widths",
            persist_state="session",
            help="Paper: 2, 3 and 4 for an average of 3 bits; 1 as well for an average of 2. 0 measures what leaving "
            "an expert out costs. Each width adds time.",
        )  # fmt: skip
        group = st.selectbox(
            "Group size", GROUPS, index=GROUPS.index(128), key="calibrate:group", persist_state="session",
            format_func=lambda size: "whole row" if size == -1 else f"{size}" + (" (paper)" if size == 128 else ""),
            help="Input channels that share one scale. Matrices narrower than a group are one group.",
        )  # fmt: skip
        symmetric = st.toggle(
            "Symmetric grid (paper)", value=True, key="calibrate:symmetric", persist_state="session",
            help="Off: every group has a zero point as well, which uses all four levels at 2 bits.",
        )  # fmt: skip
        signals = st.multiselect(
            "Redundancy signals", list(SIGNALS), default=["text_attention"], key="calibrate:signals",
            persist_state="session",
            help="What ranks the vision tokens from key to redundant. Paper: text_attention. Others add time and size.",
        )  # fmt: skip
        sensitivity = st.toggle(
            "Measure sensitivity (paper)", value=True, key="calibrate:sensitivity", persist_state="session",
            help="Off: only frequencies are counted. Faster, but no allocation can weigh the damage.",
        )  # fmt: skip
        gradients = st.toggle(
            "Gradients, for Fisher importance", value=False, key="calibrate:gradients", persist_state="session",
            help="Adds a backward pass: what rounding an expert does to what the model says. The methods fisher, "
            "mode_fisher and veq need it. About three times the time and more memory.",
            disabled=not sensitivity,
        )  # fmt: skip
        exemplars = st.number_input(
            "Exemplars of each expert", 0, 64, 8, key="calibrate:exemplars", persist_state="session",
            help="So many text tokens and picture patches are kept per expert, those that its router weighed most.",
        )  # fmt: skip
        batch = st.number_input(
            "Samples per forward pass", 1, 64, 4, key="calibrate:batch", persist_state="session",
            help="Larger is faster where memory allows.",
        )  # fmt: skip
    if not widths or not signals:
        st.error("Choose at least one width to measure, and one redundancy signal.")
        return None
    return CalibrationSettings(
        bits=tuple(sorted(widths)), signals=tuple(signals), group_size=group, symmetric=symmetric,
        sensitivity=sensitivity, batch_size=batch, gradients=gradients and sensitivity, exemplars=exemplars,
    )  # fmt: skip


def name_part() -> str | None:
    """A name for the run that is not taken; None while it will not do."""
    if "calibrate:name" not in st.session_state:
        st.session_state["calibrate:name"] = time.strftime("run-%m%d-%H%M%S")
    name = st.text_input("Name of the run", key="calibrate:name", persist_state="session").strip()
    if not NAME.fullmatch(name):
        st.error("A run's name has letters, digits, '.', '-' and '_', at most 64, and begins with a letter or digit.")
    elif half_done(name):
        st.info(f"The run {name!r} is half done. With its model, samples and settings it is continued.")
        return name
    elif (session.runs_folder() / name).exists() or name == session.BUNDLED:
        st.error(f"There is a run called {name!r} already; choose another name.")
    else:
        return name
    return None


def half_done(name: str) -> bool:
    """Is there a run of that name that was interrupted?"""
    folder = session.runs_folder() / name
    return (folder / "run.json").is_file() and not session.run_busy(name) and session.Run.open(folder).state != "done"


@st.cache_data(max_entries=32, show_spinner="Counting tokens …")
def tokens_of(source: str, digest: str, _samples: list) -> tuple[int, int, int]:
    return estimate_tokens(source, _samples)


def estimate_part(source: str, samples: list, settings: CalibrationSettings | None) -> bool:
    """What lies ahead, in tokens, time and memory; False where model and samples do not go together."""
    if is_hub_id(source):
        return True
    try:
        text, vision, looked = tokens_of(source, sample_picker.digest(samples), samples)
    except (ModelError, SampleError) as refused:
        st.error(str(refused), icon=":material/error:")
        return False
    how = "counted" if looked == len(samples) else f"estimated from {looked} of {len(samples)} samples"
    share = 100 * vision / max(1, text + vision)
    st.markdown(
        f"**{text + vision:,} tokens** ({how}), {share:.0f} % of them vision tokens, in {len(samples)} sample"
        f"{'s' if len(samples) != 1 else ''}."
    )
    if settings is not None and (ahead := cost_ahead(source, settings, text + vision)):
        st.caption(ahead)
    if vision == 0:
        st.warning(
            "No sample has a picture, so nothing is learned about vision tokens. Add pictures to see the two biases."
        )
    return True


def cost_ahead(source: str, settings: CalibrationSettings, tokens: int) -> str:
    """Memory from the model's shapes, and time from earlier runs of the same model on this machine, as a sentence."""
    try:
        memory = memory_of(source, settings)
    except (ModelError, OSError, ValueError) as unknown:
        return f"Memory is not known before the model is loaded ({unknown})."
    words = f"About {memory / 1e9:.2g} GB of memory (weights, sums and rounded experts; estimate)"
    speed = tokens_per_second(source, settings, [session.Run.open(entry.path) for entry in session.runs()])
    if speed is None:
        return f"{words}. The time is known after the first samples."
    seconds = tokens / speed
    return f"{words}, about {seconds:.0f} s at the pace of an earlier run (estimate; loading not counted)."


@st.cache_data(max_entries=32, show_spinner="Reading the model's shapes …")
def memory_of(source: str, settings: CalibrationSettings) -> int:
    return estimate_memory(source, settings)


def outcome() -> None:
    """The job in the URL, if it is a calibration: its progress, or what came of it and what to do next."""
    job = session.jobs().get(session.watched())
    if job is None or not job.kind.startswith("calibrate:"):
        return
    name = job.kind.partition(":")[2]
    jobs_panel.panel(job)
    if job.active:
        return
    folder = session.runs_folder() / name
    readable = (folder / "run.json").is_file() and session.Run.open(folder).state != "begun"
    if readable and st.session_state.get("calibrate:opened") != job.id:  # once: later another run may be looked at
        st.session_state["calibrate:opened"] = job.id
        session.open_run(name)
        st.rerun()
    if job.state == "done":
        info = session.Run.open(folder).info
        spent = f"It took {info['seconds']:.0f} s and {info['peak_memory_bytes'] / 1e9:.2g} GB at most."
        opened = " and open" if session.wanted_run() == name else ""
        st.success(f"The run {name!r} is finished{opened}. {spent}", icon=":material/check_circle:")
    elif readable:
        st.info(f"What was measured before the end is kept: the half-done run {name!r} is open.")
    left, right, _ = st.columns([1, 1, 4])
    if readable and left.button("See its experts", type="primary"):
        session.go("experts")
    if right.button("Dismiss"):
        session.watch(None)
        st.rerun()


st.title("Calibrate")
st.caption("The model reads every sample once. Which experts text and vision tokens choose, and what quantization "
           "would do to them, is kept as a run; nothing later needs these samples again.")  # fmt: skip
outcome()
left, right = st.columns([3, 2], gap="large")
with left:
    st.subheader("Samples")
    samples = sample_picker.pick()
with right:
    source = model_picker.pick()
    settings = settings_part()
    name = name_part()
    busy = (job := session.jobs().get(session.watched())) is not None and job.active
    fits = estimate_part(source, samples, settings) if source and samples else False
    ready = bool(fits and settings and name and not busy)
    if st.button("Start calibration", type="primary", disabled=not ready, width="stretch", key="calibrate:start"):
        job = session.jobs().submit(
            f"Calibration of {len(samples)} samples", f"calibrate:{name}", calibrate_run,
            session.shelf(), source, samples, settings, session.runs_folder() / name,
        )  # fmt: skip
        session.watch(job.id)
        del st.session_state["calibrate:name"]
        st.rerun()
    if not samples:
        st.caption("Next: choose samples on the left.")
    elif not source:
        st.caption("Next: give the folder of a model, or a hub id.")
    elif busy:
        st.caption("A job is running; wait for it, or cancel it.")
run_list.part()
