"""Which experts did this token use? One sample, its tokens to choose from, and their paths through all layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.charts.routes import TITLES, token_name
from dashboard.components import Readout, changes, chart, chips, readout
from dashboard.jobs import work
from dashboard.parts.calibrate import trust
from dashboard.parts.calibrate.sample_picker import bundled_calibration
from dashboard.parts.quantize import quantizing
from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, kept_samples, model_sources, process_wide, solving
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.runs.token_routes import TokenRoutes

ABSENT = (
    "This run keeps no routes of single tokens (it was made by an earlier version, imported, or keeps no samples). "
    "Calibrate again to see which experts each token uses."
)

COLOUR = "routes-colour"  # key of what the strip shows


def part(axes: charts.Axes) -> None:
    """The sample, and what follows from it; a job of this part above them."""
    known = {name: one for name, one in kept_samples.token_routes().items() if one.banks == axes.names}
    if not known:
        st.info(ABSENT, icon=":material/alt_route:")
        return
    job = process_wide.watched_job()
    if job is not None and job.kind.startswith("route:"):
        jobs_panel.panel(job)
    told, ids = kept_samples.sample_records(), list(known)
    st.selectbox(
        "Sample", ids, format_func=lambda name: f"{told.get(name, {}).get('text') or name}"[:80],
        help="The first samples of the calibration; a run keeps these to be looked at.",
        **address.bind_place("sample", ids, ids[0]),
    )  # fmt: skip
    follow(known[address.chosen("sample", ids, ids[0])], axes)


@st.fragment
def follow(routes: TokenRoutes, axes: charts.Axes) -> None:
    """A token and an expert are chosen, by click, by keys or in boxes; everything else follows."""
    routes, other, parted = both_routes(routes) or (routes, None, None)
    token, row, expert = chosen(routes, axes)
    readout(sentence(routes, axes), "routes")
    boxes(routes, axes, token, row, expert)
    shown = pictures(routes)
    left, right = st.columns([1, 1.25], gap="medium")

    def path() -> go.Figure:
        token, *at = chosen(routes, axes)
        return charts.token_path(axes, routes, token, tuple(at), other)

    @current_run.once
    def moved() -> str:
        """What a click on a token changes."""
        figures = {"token-path": path(), "routes-strip": strip_figure(routes, axes, parted)}
        return changes(figures, {"routes": sentence(routes, axes)})

    with left:
        chips(
            names_of(routes, shown), routes.words, shown, lambda: lit(routes, axes), key=f"chips:{routes.sample}",
            template=routes.template, on_choose=lambda one: address.put(token=str(one)), follow=moved,
        )  # fmt: skip
        who = f"expert {expert} of layer {axes.ticks[row]}"
        st.caption(f"Lit: tokens sent to {who}, brighter with their routing weight. Framed: the token on the right.")
        if routes.tokens > len(routes.words):
            st.caption(f"Of {routes.tokens:,} tokens a run keeps the routes of the first {len(routes.words):,}.")
    with right:
        chart(
            path(), "token-path", follows=True,
            table=lambda: path_table(routes, axes, token), on_pick=lambda what: pick_expert(axes, (row, expert), what),
        )  # fmt: skip
    strip(routes, axes, parted)
    quantized_part(routes, other)


def chosen(routes: TokenRoutes, axes: charts.Axes) -> tuple[int, int, int]:
    """Token, bank row and expert: of the address, else the first token that a person wrote, and its heaviest expert."""
    written = np.flatnonzero(~routes.template & ~routes.vision)
    token = address.chosen("token", range(len(routes.words)), int(written[0]) if len(written) else 0)
    bank, expert = current_run.selected()
    row = axes.names.index(bank)
    return token, row, int(routes.experts[row, token, 0]) if address.place("expert") is None else expert


def lit(routes: TokenRoutes, axes: charts.Axes) -> dict:
    """What `chips` shows of the chosen expert."""
    token, row, expert = chosen(routes, axes)
    who = f"expert {expert} of layer {axes.ticks[row]}"
    label = f"Tokens of the sample; lit: those sent to {who}. Arrow keys move."
    return {"weights": routes.weight_of(row, expert).round(3).tolist(), "who": who, "chosen": token, "label": label}


def sentence(routes: TokenRoutes, axes: charts.Axes) -> Readout:
    """What the chosen expert was sent of this sample, and what the chosen token weighed it with."""
    token, row, expert = chosen(routes, axes)
    weights = routes.weight_of(row, expert)
    count = [f"{int((weights[kind] > 0).sum())} of {int(kind.sum())}" for kind in (~routes.vision, routes.vision)]
    here = f"routing weight {weights[token]:.2f}" if weights[token] else "not sent there"
    took = f"took {count[0]} text tokens and {count[1]} vision tokens of this sample"
    return Readout(f"Expert {expert} of layer {axes.ticks[row]}", f"{took}; {token_name(routes, token)}: {here}.")


def boxes(routes: TokenRoutes, axes: charts.Axes, token: int, row: int, expert: int) -> None:
    """Token, layer and expert by number: the same choices as clicks."""
    cells = st.columns(3, vertical_alignment="bottom")
    held = st.session_state
    held["routes-token"], held["routes-bank"], held["routes-expert"] = token, axes.names[row], expert
    cells[0].number_input(
        f"Token, of {len(routes.words)}", 0, len(routes.words) - 1, step=1, key="routes-token",
        on_change=lambda: address.put(token=str(int(held["routes-token"]))),
    )  # fmt: skip
    cells[1].selectbox(
        "Layer", axes.names, format_func=dict(zip(axes.names, axes.ticks, strict=True)).get, key="routes-bank",
        on_change=lambda: choose_layer(routes, axes, token, axes.names.index(held["routes-bank"])),
        help="Its heaviest expert for the chosen token is chosen with it.",
    )  # fmt: skip
    cells[2].number_input(
        f"Expert, of {axes.experts[row]}", 0, axes.experts[row] - 1, step=1, key="routes-expert",
        on_change=lambda: current_run.select(axes.names[row], int(held["routes-expert"])),
        help=explain("routing weight", "router entropy"),
    )  # fmt: skip


def choose_layer(routes: TokenRoutes, axes: charts.Axes, token: int, row: int) -> None:
    """A layer, and there the expert that weighs most for the token."""
    current_run.select(bank=axes.names[row], expert=int(routes.experts[row, token, 0]))


def pick_expert(axes: charts.Axes, at: tuple[int, int], what: dict) -> None:
    """A dot or cross of the path was clicked, or an arrow key pressed: up and down the layers, left and right."""
    row, expert = at
    if facts := what.get("facts"):
        row, expert = int(facts[0]), int(facts[1])
    else:
        down, across = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}.get(what.get("step"), (0, 0))
        row = min(max(row + down, 0), len(axes.names) - 1)
        expert += across
    current_run.select(bank=axes.names[row], expert=min(max(expert, 0), axes.experts[row] - 1))


def pictures(routes: TokenRoutes) -> list[dict]:
    """The sample's pictures as `chips` takes them: those whose tokens' places are known and were all kept."""
    record = kept_samples.sample_records().get(routes.sample, {})
    grids, tokens, found, begin = record.get("grids") or (), np.flatnonzero(routes.vision).tolist(), [], 0
    for number, (rows, columns) in enumerate(grids):
        cells, begin = tokens[begin : begin + rows * columns], begin + rows * columns
        files = record.get("thumbnails", [])
        shown = kept_samples.picture(files[number]) if number < len(files) else None
        uri, shape = shown or ("", rows / columns)
        if len(cells) == rows * columns:
            alt = f"Picture {number + 1}, {rows} × {columns} vision tokens"
            found.append({"uri": uri, "shape": shape, "tokens": cells, "columns": columns, "alt": alt})
    return found


def names_of(routes: TokenRoutes, shown: list[dict]) -> list[str]:
    """What each token is called, with its place in the picture: `[T]`."""
    names = [token_name(routes, token) for token in range(len(routes.words))]
    for number, picture in enumerate(shown):
        for place, token in enumerate(picture["tokens"]):
            row, column = divmod(place, picture["columns"])
            names[token] += f", row {row + 1}, column {column + 1} of picture {number + 1}"
    return names


def path_table(routes: TokenRoutes, axes: charts.Axes, token: int) -> pd.DataFrame:
    """One row per layer: the experts with their weights, and the router's entropy."""
    rows = []
    for row, tick in enumerate(axes.ticks):
        pairs = zip(routes.experts[row, token], routes.weights[row, token], strict=True)
        sent = ", ".join(f"{expert} ({weight:.3f})" for expert, weight in pairs if weight > 0)
        entropy = float(routes.entropy[row, token])
        rows.append({"layer": tick, "experts_(routing_weight)": sent, "router_entropy_bits": entropy})
    return pd.DataFrame(rows)


def strip(routes: TokenRoutes, axes: charts.Axes, parted: np.ndarray | None) -> None:
    """Layers × tokens; a cell chooses its token, its layer, and there the token's heaviest expert."""
    if parted is not None:
        st.segmented_control(
            "Colour", list(TITLES), format_func=TITLES.get, required=True, label_visibility="collapsed",
            default="parted", key=COLOUR, persist_state="session",
        )  # fmt: skip

    def picked(what: dict) -> None:
        row, token = (int(number) for number in what["place"])
        if 0 <= row < len(axes.names) and 0 <= token < len(routes.words):
            address.put(token=str(token))
            choose_layer(routes, axes, token, row)

    figure = strip_figure(routes, axes, parted)
    chart(figure, "routes-strip", follows=True, on_pick=picked, table=lambda: strip_table(routes, axes, parted))


def strip_figure(routes: TokenRoutes, axes: charts.Axes, parted: np.ndarray | None) -> go.Figure:
    """The same, in the colour chosen."""
    token, row, _ = chosen(routes, axes)
    return charts.token_strip(axes, routes, (row, token), parted if st.session_state.get(COLOUR) == "parted" else None)


def strip_table(routes: TokenRoutes, axes: charts.Axes, parted: np.ndarray | None) -> pd.DataFrame:
    """One row per token and layer."""
    layers, tokens = np.indices(routes.entropy.shape)
    held = {"token": tokens.ravel(), "word": np.array(routes.words)[tokens.ravel()]}
    held |= {"layer": np.array(axes.ticks)[layers.ravel()], "router_entropy_bits": routes.entropy.ravel()}
    held |= {"heaviest_expert": routes.experts[..., 0].ravel()}
    if parted is not None:
        held["experts_only_in_original"] = parted.ravel()
    return pd.DataFrame(held)


def both_routes(routes: TokenRoutes) -> tuple[TokenRoutes, TokenRoutes, np.ndarray] | None:
    """The sample's routes in the original and in the quantized model of the present settings, and where they part, once
    this visitor had them computed."""
    found = process_wide.finished(_kind(routes))
    try:
        return found[1:] if found and found[0] == solving.fingerprint() else None
    except AllocationError:
        return None


def _kind(routes: TokenRoutes) -> str:
    return f"route:{current_run.run_entry().path}:{routes.sample}"


def quantized_part(routes: TokenRoutes, other: TokenRoutes | None) -> None:
    """The button that routes this sample through the quantized model, or why it cannot."""
    run = current_run.run()
    if other is not None:
        st.caption(
            "Crosses: experts that only the quantized model chose, with the bits of the Budget page. Both models were "
            "run on this machine just now; the run itself may have been made in another precision."
        )
        return
    at_hand = model_sources.folder_of(run.model_source) is not None
    samples = (
        (quantizing.own_samples(run) if current_run.writable() else bundled_calibration(None)) if at_hand else None
    )
    sample = next((one for one in samples or () if one.id == routes.sample), None)
    if sample is None:
        what = "sample itself" if at_hand else "model of this run"
        st.caption(f"To route it through the quantized model, too, the {what} would have to be on this machine.")
        return
    told = "Quantizes with the bits of the Budget page, runs the sample once, and puts the model back."
    if st.button(
        "Route this sample through the quantized model", icon=":material/alt_route:", key="routes:go", help=told
    ):
        try:
            bits, seal = solving.allocation(), solving.fingerprint()
        except AllocationError as refused:
            st.error(plain(refused), icon=":material/error:")
            return
        started = process_wide.start(
            "Routing a sample through the quantized model", _kind(routes), work.route, process_wide.shelf(), run, bits,
            solving.quantizer(), sample, seal, quantizing.calibration_samples(),
            trusted=trust.may_run(run.model_source),
        )  # fmt: skip
        if started:
            st.rerun()
