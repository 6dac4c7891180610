"""Quantize: put the allocation into the model, on demand, and measure what it costs against uniform bits."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import streamlit as st

from dashboard.charts import accuracy_by_task
from dashboard.components.chart import chart
from dashboard.jobs import work
from dashboard.parts.calibrate import trust
from dashboard.parts.quantize import measured, quantizing
from dashboard.parts.quantize.measured import ALLOCATION, MODELS, ORIGINAL, UNIFORM, Measurement
from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, estimating, folders, model_sources, process_wide, solving
from dashboard.state.choices import describe
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.allocation import Allocation, AllocationError
from mode_core.csv_files import without_formulas
from mode_core.samples import ImageSource, Sample, SampleError, read_samples
from mode_core.samples.records import IMAGE_SUFFIXES


def plan() -> tuple[Allocation, Allocation]:
    """The allocation and its rival, with their predicted sizes; nothing is computed by the model here."""
    chosen = solving.allocation()
    uniform = solving.uniform_like(chosen)
    statistics, quantizer = current_run.statistics(), solving.quantizer()
    counts = Counter(np.concatenate([bits.ravel() for bits in chosen.bits.values()]).tolist())
    sizes = [quantizer.packed_bytes(statistics, allocation.bits) for allocation in (chosen, uniform)]
    cells = st.columns(4)
    cells[0].metric(
        "Method", names.short_method(chosen.method), help="Chosen on the Budget page, as are the budget and the widths."
    )
    cells[1].metric(
        "Average bits",
        f"{chosen.average_bits:.2f}",
        f"{estimating.effective_bits(chosen):.2f} with scales",
        delta_color="off",
        delta_arrow="off",
    )
    cells[2].metric(
        "Experts, predicted", measured.size_text(sizes[0]), help="Packed codes, scales and zero points of all experts."
    )
    cells[3].metric(
        "Uniform, same size",
        measured.size_text(sizes[1]),
        estimating.mixed(uniform),
        delta_color="off",
        delta_arrow="off",
    )
    spread = " · ".join(f"{counts[width]:,} experts at {width} bits" for width in sorted(counts))
    st.caption(f"{spread}. The rival is uniform bits of the same size: {estimating.mixed(uniform)}.")
    return chosen, uniform


USUAL = 200  # evaluation items: enough to tell uniform widths apart on the bundled model


@st.cache_resource(max_entries=1, show_spinner="Reading the evaluation samples …")
def evaluation_samples(stamp: int) -> list[Sample]:
    return list(read_samples(folders.EVALUATION))


def answerable() -> list[Sample]:
    """The bundled evaluation samples; empty where they are missing."""
    if not folders.EVALUATION.is_dir():
        return []
    return evaluation_samples(folders.EVALUATION.stat().st_mtime_ns)


def spread(samples: list[Sample], count: int) -> list[Sample]:
    """`count` of the samples, evenly over the list, so that every task has its share."""
    return [samples[place] for place in np.linspace(0, len(samples) - 1, count).round().astype(int)]


def measure_part(chosen: Allocation, uniform: Allocation, ready: bool) -> None:
    """The button, and how many items it takes."""
    samples = quantizing.evaluation_part(answerable())
    if not samples:
        return
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    few = min(32, len(samples))
    count = len(samples) if few == len(samples) else left.slider(
        "Evaluation items", few, len(samples), min(USUAL, len(samples)), key="quantize:items", persist_state="session",
        help="Spread over all tasks. Fewer are faster and less certain; the intervals say how much.",
    )  # fmt: skip
    if right.button("Quantize and measure", type="primary", disabled=not ready, width="stretch", key="quantize:go"):
        opened, kind = current_run.run(), f"measure:{current_run.run_entry().path}"
        started = process_wide.start(
            f"Measuring on {count} items", kind, work.measure, process_wide.shelf(), opened, chosen, uniform,
            solving.quantizer(), spread(samples, count), solving.fingerprint(chosen), solving.settings_now(),
            current_run.writable(), quantizing.calibration_samples(), trusted=trust.may_run(opened.model_source),
        )  # fmt: skip
        if started:
            st.rerun()


def latest() -> Measurement | None:
    """The measurement to show: of the present settings where there is one, else the newest of this run."""
    known = process_wide.measurements()
    now = solving.fingerprint()
    return next((found for found in known if found.fingerprint == now), known[0] if known else None)


def result_part() -> None:
    """What was measured, marked stale where the settings have changed since."""
    for name, why in process_wide.damaged_measurements().items():
        st.warning(f"{plain(name)}: damaged: {plain(why)}", icon=":material/broken_image:")
    found = latest()
    if found is None:
        st.info("Nothing has been measured with this run yet. Press “Quantize and measure”.", icon=":material/info:")
        return
    stale = found.fingerprint != solving.fingerprint()
    when = time.strftime("%d %b, %H:%M", time.localtime(found.made))
    about = f"Measured on {when} with: {plain(describe(found.settings))}."
    if stale:
        st.warning(f"Out of date: the settings have changed since. {about}", icon=":material/history:")
    else:
        st.caption(about)
    cells = st.columns(3)
    for cell, model in zip(cells, MODELS, strict=True):
        scores = found.scores[model]
        compared = model != ORIGINAL and scores.accuracy is not None
        change, colour = measured.loss_sentence(found, model) if compared else (None, "off")
        value = "no answers" if scores.accuracy is None else f"{100 * scores.accuracy:.1f} %"
        label = f"Accuracy, {found.label(model)}"
        cell.metric(label, value, change, delta_color=colour, delta_arrow="off")
    for note in found.notes:
        st.caption(f":material/info: {plain(note)}")
    items = len(found.scores[ORIGINAL].answers)
    st.caption(f"Exact answers to {items} items; differences in points on the same items, with a 95 % interval.")
    frame = measured.accuracy_frame(found)
    if frame.empty:
        st.caption("These items have no answers, so there is no accuracy; the distance to the original is below.")
    else:
        figure = accuracy_by_task(frame).update_xaxes(automargin=True)  # tasks may have long names
        chart(figure, key="quantize-accuracy", table=lambda: frame)
    left, right = st.columns(2)
    left.markdown("**Distance to the original**, KL in nats (less is better)")
    left.dataframe(measured.divergence_frame(found), hide_index=True, column_config=DIVERGENCE)
    right.markdown("**Size of all experts**, predicted beside measured")
    right.dataframe(measured.size_frame(found), hide_index=True, column_config=SIZE)


def kept_part() -> None:
    """What was evaluated at the command line and kept in this run."""
    frame = measured.evaluation_frame(process_wide.kept_scores())
    if not frame.empty:
        st.markdown("**Evaluations kept in this run** by the command line")
        st.dataframe(
            without_formulas(frame), hide_index=True, column_config={"accuracy": SHARE, "KL": NATS, "same token": SHARE}
        )


def question_part(chosen: Allocation, uniform: Allocation, ready: bool) -> None:
    """One picture and one question to all three models."""
    st.subheader("Ask all three")
    left, right = st.columns([1, 2])
    with left:
        picture, question = picture_part()
    with right:
        question = st.text_input("Question", value=question, key=f"ask:question:{question}").strip()
        if st.button("Ask", disabled=not (ready and question), key="ask:go"):
            mark = "<image>" if picture else ""
            sample = Sample((picture,) if picture else (), ({"role": "user", "content": mark + question},))
            job = process_wide.start(
                "Asking three models", "ask", work.ask, process_wide.shelf(), current_run.run(), chosen, uniform,
                solving.quantizer(), sample, quantizing.calibration_samples(),
                trusted=trust.may_run(current_run.run().model_source),
            )  # fmt: skip
            if job:
                st.session_state["ask:about"] = (question, solving.fingerprint(chosen), estimating.mixed(uniform))
                st.session_state["ask:job"] = job.id
                st.rerun()
        answers_part()


def picture_part() -> tuple[ImageSource | None, str]:
    """A bundled picture (with its own question) or an uploaded one."""
    samples = [sample for sample in answerable() if len(sample.images) == 1]
    options = ["Bundled", "Upload", "None"] if samples else ["Upload", "None"]
    which = st.segmented_control(
        "Picture", options, default=options[0], required=True, key="ask:which", persist_state="session"
    )
    if which == "None":
        return None, ""
    if which == "Upload":
        file = st.file_uploader("A picture", [suffix[1:] for suffix in IMAGE_SUFFIXES], key="ask:upload")
        source, question = (ImageSource(file.name, data=file.getvalue()) if file else None), ""
    else:
        names = {f"{sample.task or 'picture'} · {sample.text[:60]} · {sample.id}": sample for sample in samples}
        sample = names[st.selectbox("Which", list(names), key="ask:sample", persist_state="session")]
        source, question = sample.images[0], sample.text
        if sample.answer:
            st.caption(f"Expected answer: {plain(sample.answer)}")
    if source is not None:
        try:
            st.image(source.load(), width=220, alt=source.name)
        except SampleError as refused:
            st.error(plain(refused))
            return None, ""
    return source, question


def answers_part() -> None:
    """Three answers side by side, with the tokens and how sure each model was of them."""
    job = process_wide.jobs().get(st.session_state.get("ask:job"))
    if job is None or job.state != "done":
        return
    question, seal, rival = st.session_state["ask:about"]
    stale = " (out of date: the settings have changed since)" if seal != solving.fingerprint() else ""
    st.caption(f"“{plain(question)}”{stale}")
    labels = {ORIGINAL: "original", ALLOCATION: "this allocation", UNIFORM: f"uniform, {rival}"}
    for cell, (model, answer) in zip(st.columns(3), job.result.items(), strict=True):
        with cell.container(border=True):
            st.caption(labels[model])
            st.markdown(f"**{plain(answer.text) or '(no answer)'}**")
            st.caption(quantizing.token_line(answer, job.result[ORIGINAL]))


SHARE = st.column_config.NumberColumn(format="percent")
NATS = st.column_config.NumberColumn(format="%.4f")
DIVERGENCE = dict.fromkeys(("KL, text", "KL, pictures"), NATS)
DIVERGENCE |= dict.fromkeys(("same token, text", "same token, pictures"), SHARE)
SIZE = {name: st.column_config.NumberColumn(format="localized") for name in ("predicted bytes", "measured bytes")}
SIZE["of original"] = SHARE

st.title("Quantize")
st.caption("The experts are rounded to the bits of the Budget page, really packed, and put into the model. "
           "Nothing runs until you press a button.")  # fmt: skip
current_run.run()
quantizing.settings_part()
try:
    chosen, uniform = plan()
except AllocationError as refused:
    st.error(plain(refused), icon=":material/error:")
    if st.button("Change the budget", type="primary"):
        address.go("budget")
    st.stop()
source = current_run.run().model_source
job = process_wide.watched_job()
busy = job is not None and job.active
present = bool(source) and ((Path(source) / "config.json").is_file() or model_sources.is_hub_id(source))
if not present:
    st.error(f"The model of this run is not on this machine ({plain(source)}); it cannot be quantized here. "
             "The bits can still be exported.", icon=":material/error:")  # fmt: skip
else:
    trust.switch(source)
if job is not None and job.kind.partition(":")[0] in ("measure", "ask"):
    jobs_panel.panel(job)
measure_part(chosen, uniform, present and not busy)
result_part()
kept_part()
question_part(chosen, uniform, present and not busy)
