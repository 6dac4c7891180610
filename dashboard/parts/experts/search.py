"""Which experts a word, or a patch of a picture, leads to; and a link to the chosen expert."""

from __future__ import annotations

from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import show_table
from dashboard.parts.experts.exemplars import exemplars_of_run
from dashboard.state import address, current_run, kept_samples
from dashboard.state.remembered import remembered
from dashboard.words.plain import plain
from mode_core.errors import ExemplarsError, RunError
from mode_core.run import Run
from mode_core.runs.expert_search import Found, by_token, by_word

MOST_SHOWN = 50
LONGEST = 60  # characters that are searched for
ORDER = (
    "Ordered by exemplars that match (of those each expert was chosen for most strongly), then by matching tokens of "
    "the kept samples that were sent there, then by the sum of their routing weights. Counts of few tokens, no claim "
    "about what an expert is for."
)


def part(axes: charts.Axes) -> None:
    """The box, what to search by, and the experts in order; a row chooses its expert."""
    opened = st.expander("Search experts by word or patch", icon=":material/search:", key="search",
                         expanded=address.place("find") is not None, on_change="rerun")  # fmt: skip
    if not opened.open:
        return
    with opened:
        st.session_state["search-text"] = (address.place("find") or "")[:LONGEST]
        st.text_input(
            "A word, or a part of one; “patch” and its number for a patch of the sample chosen on Tokens: patch 12",
            key="search-text", max_chars=LONGEST,
            on_change=lambda: address.put(find=st.session_state["search-text"].strip() or None),
        )  # fmt: skip
        wanted = st.session_state["search-text"].strip()
        if not wanted:
            return
        try:
            found = _found(current_run.run_key(), current_run.run(), wanted, address.place("sample"))
        except (ExemplarsError, RunError) as damaged:
            st.error(plain(damaged), icon=":material/broken_image:")
            return
        results(found, wanted, axes)


@remembered(16)
def _found(key: tuple, _run: Run, wanted: str, sample: str | None) -> Found | str:
    """The experts; or why a patch cannot be looked up."""
    routes = kept_samples.token_routes()
    word, _, number = wanted.partition(" ")
    if word.casefold() == "patch" and number.isdecimal() and len(number) < 10:
        if not routes:
            return "This run keeps no routes of single tokens, so a patch cannot be looked up; calibrate again."
        one = routes.get(sample) or next(iter(routes.values()))
        tokens = one.vision.nonzero()[0]
        if int(number) >= len(tokens):
            return f"The sample {one.sample} has the patches 0 to {len(tokens) - 1}, and no patch {number}."
        return by_token(one, int(tokens[int(number)]))
    return by_word(wanted, exemplars_of_run(key), routes.values())


def results(found: Found | str, wanted: str, axes: charts.Axes) -> None:
    """What was found, in order, with the definition of it."""
    if isinstance(found, str):
        st.info(plain(found), icon=":material/search_off:")
        return
    hits = [hit for hit in found.hits if hit.bank in axes.names]
    if not hits:
        st.info(f"No exemplar and no kept token holds “{plain(wanted)}”.", icon=":material/search_off:")
        return
    shown = min(len(hits), MOST_SHOWN)
    st.caption(f"{len(hits)} experts, {shown} shown; kept tokens that match: {found.tokens}. {ORDER}")
    ticks = dict(zip(axes.names, axes.ticks, strict=True))
    table = pd.DataFrame(
        [
            {"layer": ticks[hit.bank], "expert": hit.expert, "exemplars": hit.exemplars, "kept tokens": hit.kept,
             "sum of routing weights": round(hit.weight, 3), "for example": hit.example}
            for hit in hits[:shown]
        ]
    )  # fmt: skip

    def picked() -> None:
        if rows := st.session_state["search-rows"].selection.rows:
            current_run.select(bank=hits[rows[0]].bank, expert=hits[rows[0]].expert)

    show_table(table, height=240, key="search-rows", on_select=picked,
                 selection_mode="single-row")  # fmt: skip


def link(bank: str, expert: int) -> None:
    """The address of this page with the chosen expert, to be copied and given to others."""
    place = {"bank": str(list(current_run.statistics().banks).index(bank)), "expert": str(expert)}
    with st.popover("Link to this expert", icon=":material/link:"):
        st.code(f"{st.context.url}?{urlencode(st.query_params.to_dict() | place)}", language=None, wrap_lines=True)
        st.caption("It opens this run, if the other machine has it, with this expert and these settings.")
