"""What each lesson shows of the open run: its picture, its question with the right answer, its control, its way on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.charts import lecture, theme
from dashboard.charts import lesson as pictures
from dashboard.charts.measures import most_starved
from dashboard.parts.compare import comparing
from dashboard.parts.learn import lesson_claims
from dashboard.parts.learn.lesson_controls import (
    RIVALS,
    TOKENS,
    budget_control,
    kind_control,
    layer_control,
    ratio_control,
    rival_control,
)
from dashboard.parts.learn.lesson_facts import band, growth, half_of_work, nearest, stay_among, tokens_for_half
from dashboard.parts.learn.lesson_ground import Ground, Scene, empty, lecturing
from dashboard.parts.tokens import token_view
from dashboard.state import address, comparisons, current_run, kept_samples, solving
from dashboard.words import names
from mode_core.allocation import AllocationError
from mode_core.comparison import EvidenceError
from mode_core.evaluation.verdicts import verdict
from mode_core.importance import CostTable, bias
from mode_core.importance.key_tokens import token_ranks
from mode_core.modalities import ALL, KEY_TOKENS, KINDS, TEXT_TOKENS, VISION_TOKENS


def router(ground: Ground) -> Scene:
    """Few experts do most of the work."""
    shares = ground.shares("all")
    found = half_of_work(shares)
    parts = (0.06, 0.125, 0.25, 0.5)
    choices = list(dict.fromkeys(max(1, round(part * ground.experts)) for part in parts))
    return Scene(
        lambda shown: pictures.router_load(shares, found, shown),
        f"Layer {tick(ground)} has {ground.experts} experts. How few of them do half of its work?",
        tuple(map(str, choices)),
        nearest(choices, found, ratio=True),
        f"**{found} of {ground.experts}** do half of it.",
        lambda _: layer_control(ground.grid.axes, ground.bank),
        lambda: address.put(view="load"),
        lambda: pd.DataFrame({"expert": np.arange(shares.size), "share_of_all_tokens": shares}),
        findings=lambda: ground.findings(lesson_claims.router),
    )


def frequency(ground: Ground) -> Scene:
    """Counting all tokens starves experts that text needs."""
    text, every = ground.shares(TEXT_TOKENS), ground.shares("all")
    if np.isnan(text).any() or np.isnan(ground.shares(VISION_TOKENS)).any():
        return empty("No text or no vision tokens came to this layer, so there is nothing to count apart.")
    by_text, by_all = bias.busiest_ranks(text), bias.busiest_ranks(every)
    fallen = int(bias.starved(text, every).sum())
    worst = most_starved(ground.grid, ground.row)
    vision, words = (
        ground.grid.counts[VISION_TOKENS][ground.row].sum(),
        ground.grid.counts[TEXT_TOKENS][ground.row].sum(),
    )

    letters = lecture.LETTERS if lecturing() else 10.5

    def prepare() -> None:
        address.put(view="rank")
        current_run.select(bank=ground.bank, expert=worst)

    return Scene(
        lambda shown: pictures.rank_slopes(by_text, by_all, ground.top, shown, letters),
        f"Here are {vision / max(words, 1):.1f} vision tokens for each of text. Of the {ground.top} busiest experts "
        "for text, how many fall into the lower half when all are counted together?",
        ("none", "1 or 2", "3 or 4", "5 or more"),
        band((0, 1, 3, 5), fallen),
        f"**{fallen} of {ground.top}**; expert {worst} falls furthest.",
        lambda _: layer_control(ground.grid.axes, ground.bank),
        prepare,
        lambda: pd.DataFrame({"expert": np.arange(text.size), "rank for text": by_text, "rank for all tokens": by_all}),
        findings=lambda: ground.findings(lesson_claims.frequency),
    )


def redundancy(ground: Ground) -> Scene:
    """Few vision tokens hold most of the attention."""
    scores = kept_samples.token_scores()
    shown_sample = address.chosen("sample", list(scores), next(iter(scores), None)) if scores else None
    held = scores.get(shown_sample)
    record = kept_samples.sample_records().get(shown_sample, {})
    thumbnails = record.get("thumbnails", [])
    found = kept_samples.picture(thumbnails[0]) if thumbnails else None
    now = address.choices().request
    if held is None or found is None or held.grids is None or now.signal not in held.scores:
        return empty("This run keeps no picture to lay the ranking over. Open the bundled example to see one.")
    if ground.bank not in held.banks:
        return empty("This layer saw no vision tokens.")
    row, part = held.banks.index(ground.bank), token_view.image_slice(held, 0)
    values = held.scores[now.signal][row]
    needed = tokens_for_half(np.maximum(values, 0))
    uri, shape = found

    def picture(shown: bool) -> go.Figure:
        one = token_view.overlay(held, now.signal, row, now.key_ratio, "", part)
        if not shown:
            flat = np.zeros(one.scores.size)
            one = charts.Overlay("", one.scores, flat, flat.astype(bool))
        tall = lecture.LEAST if lecturing() else pictures.HEIGHT - 42
        return charts.token_overlays(uri, held.grids[0], [one], width=480, shape=shape, tallest=tall)

    options = (5, 15, 30, 45)
    return Scene(
        picture,
        f"“{record.get('text', '')}” What share of the {values.size} vision tokens holds half of the attention that "
        "the text pays to the picture?",
        tuple(f"{value} %" for value in options),
        nearest([value / 100 for value in options], needed),
        f"**{100 * needed:.0f} %** hold half of it, in layer {tick(ground)}.",
        ratio_control,
        table=lambda: pd.DataFrame({"rank": token_ranks(values) + 1, "token": np.arange(values.size), "score": values}),
        findings=lambda: lesson_claims.redundancy(
            [one.scores[now.signal] for one in scores.values() if now.signal in one.scores],
            [
                (one["vision_tokens"], one["text_tokens"])
                for one in kept_samples.sample_records().values()
                if one.get("vision_tokens")
            ],
        ),
    )


def denoised(ground: Ground) -> Scene:
    """Without redundant tokens other experts are busy."""
    vision, key = ground.shares(VISION_TOKENS), ground.shares(KEY_TOKENS)
    if np.isnan(vision).any() or np.isnan(key).any():
        return empty("No vision tokens came to this layer, so there is nothing to leave out.")
    stay, top = stay_among(vision, key, ground.top), ground.top
    edges = (0, round(0.5 * top), round(0.75 * top), top)
    return Scene(
        lambda shown: pictures.key_dumbbells(vision, key, top, shown),
        f"Only {100 * address.choices().request.key_ratio:.0f} % of the vision tokens are kept. How many of the {top} "
        f"busiest experts stay among the {top} busiest?",
        (f"fewer than {edges[1]}", f"{edges[1]} or more", f"{edges[2]} or more", f"all {top}"),
        band(edges, stay),
        f"**{stay} of {top}** stay.",
        ratio_control,
        lambda: address.put(view="difference"),
        lambda: pd.DataFrame({"expert": np.arange(key.size), "all_vision_share": vision, "key_vision_share": key}),
        findings=lambda: ground.findings(lesson_claims.denoised),
    )


def sensitivity(ground: Ground) -> Scene:
    """One bit less, several times the error."""
    now = address.choices().request
    found = charts.SensitivityGrid.of(current_run.statistics(), now.key_ratio, now.signal)
    kind = address.chosen("kind", list(TOKENS), TEXT_TOKENS)
    errors = found.errors[kind][ground.row, : ground.experts].astype(float)
    step = growth(errors, found.bits)
    if step is None:
        return empty("Sensitivity was not measured in this run, or at one width only.")
    many, few, factor = step
    options = (2, 4, 8, 16)
    return Scene(
        lambda shown: pictures.error_fan(found.bits, errors, theme.KIND_NAMES[kind], shown),
        f"From {many} to {few} bits: how many times the error, for a typical expert?",
        tuple(f"{value} ×" for value in options),
        nearest(options, factor, ratio=True),
        f"**{factor:.1f} times** (median over the layer's experts).",
        lambda _: kind_control(),
        lambda: address.put(width=str(few)),
        lambda: (
            pd.DataFrame(errors, columns=[f"error_at_{bits}_bits" for bits in found.bits])
            .rename_axis("expert")
            .reset_index()
        ),
        findings=lambda: ground.findings(lesson_claims.sensitivity, kind, KINDS[kind].title, few),
    )


def program(ground: Ground) -> Scene:
    """Bits go where most is at stake."""
    try:
        allocation = comparisons.per_expert()
    except AllocationError as impossible:
        return empty(str(impossible))
    costs = solving.costs()
    stakes = at_stake(costs)
    stake, bits = stakes[ground.bank], np.asarray(allocation.bits[ground.bank])
    widths = sorted(costs.bits)
    middle = min(widths, key=lambda width: abs(width - solving.bits_asked()))
    count, options = int((bits == middle).sum()), (0.1, 0.35, 0.65, 0.95)
    words = ("a few", "a third", "two thirds", "nearly all")
    return Scene(
        lambda shown: pictures.spent_bits(stake, bits, widths, shown),
        f"{solving.bits_asked():.3g} bits on average to spend on {ground.experts} experts, widths "
        f"{', '.join(map(str, widths))}. How many get exactly {middle} bits?",
        words,
        nearest(options, count / ground.experts),
        f"**{count} of {ground.experts}** get {middle} bits.",
        budget_control,
        lambda: current_run.select(bank=ground.bank, expert=int(np.argmax(stake))),
        lambda: pd.DataFrame({"expert": np.arange(stake.size), "at_stake": stake, "bits": bits}),
        findings=lambda: lesson_claims.program(allocation, stakes, by_formula(), drawn_method()),
    )


def at_stake(costs: CostTable) -> dict[str, np.ndarray]:
    """What the widest width saves each expert over the narrowest: bank → `[E]`."""
    few, many = (costs.bits.index(width) for width in (min(costs.bits), max(costs.bits)))
    return {bank: table[:, few] - table[:, many] for bank, table in costs.items()}


def by_formula() -> dict[str, np.ndarray] | None:
    """The same by the lesson's formula; None where that is what is chosen."""
    asked = solving.request()
    formula = replace(asked, method="mode", shrinkage=0.0)
    return None if formula.costs_alone == asked.costs_alone else at_stake(solving.costs_of(formula))


def drawn_method() -> str:
    """The chosen method and how far its costs are drawn to the mean."""
    asked = solving.request()
    return names.method(asked.method) + f", drawn to the mean by {asked.shrinkage:g}" * (asked.shrinkage > 0)


def evidence(ground: Ground) -> Scene:
    """What was measured: the method against counting, at the same budgets, on the same items."""
    try:
        found = comparisons.evidence()
    except EvidenceError as damaged:
        return empty(f"The evidence of this run cannot be read: {damaged}")
    held = set() if found is None else set(found.paired["method"])
    ours = "mode" if "mode" in held else None
    if found is None or ours is None:
        return empty(
            "Nothing was measured in this run yet. One command quantizes and asks for every method and budget, in "
            "minutes for the bundled model. The paper's own numbers are on the page Compare.",
            comparing.command(current_run.run_entry()),
        )
    rival = st.session_state.get("learn:rival", RIVALS[0])
    both = found.paired[(found.paired["method"] == ours) & (found.paired["against"] == rival)]
    both = both[(both["shrinkage"] == 0) & both["metric"].isin(("kl", "accuracy")) & (both["modality"] != ALL)]
    rows = both[(both["metric"] == "kl") & (both["modality"] == TEXT_TOKENS)].sort_values("average_bits")
    if rows.empty:
        return empty("MODE was not measured against counting in this run.")
    middle = rows.iloc[(rows["average_bits"] - 2.5).abs().argmin()]
    right = list(OUTCOMES).index(verdict(*middle[["metric", "low", "high", "apart"]]))
    return Scene(
        lambda shown: (
            charts.paired_by_budget(both, ours, rival, "kl", names.method)
            if shown
            else theme.empty(
                "Predict first: the measured differences come then.", "MODE minus its rival", pictures.HEIGHT
            )
        ),
        f"At {middle['average_bits']:g} bits, on questions without a picture: MODE against {names.method(rival)}?",
        ("surely better", "not to be told apart", "surely worse"),
        right,
        f"MODE **{list(OUTCOMES.values())[right]}** {names.method(rival)} there: "
        f"{middle['difference']:+.3g} nats ({middle['low']:+.3g} to {middle['high']:+.3g}).",
        lambda _: rival_control(),
        lambda: address.put(section="methods", metric="kl"),
        lambda: rows,
        findings=lambda: lesson_claims.evidence(both, "MODE", names.method(rival)),
    )


OUTCOMES = {"better": "is surely better than", "level": "cannot be told apart from", "worse": "is surely worse than"}
SCENES: dict[str, Callable[[Ground], Scene]] = {
    "router": router,
    "frequency": frequency,
    "redundancy": redundancy,
    "denoised": denoised,
    "sensitivity": sensitivity,
    "program": program,
    "evidence": evidence,
}


def tick(ground: Ground) -> str:
    """Short name of the bank's layer."""
    return ground.grid.axes.ticks[ground.row]
