"""The evidence of the open run, as every section begins with it: what there is, how it came about, or how to get it."""

from __future__ import annotations

import streamlit as st

from dashboard.charts.evidence import METRICS
from dashboard.parts.compare import comparing
from dashboard.state import address, comparisons, current_run
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.comparison import Evidence, EvidenceError
from mode_core.modalities import MODALITIES

_COUNTED = {f"items_{name}": names.ITEMS[name] for name in MODALITIES}


def found_or_said(name: str = "") -> Evidence | None:
    """What was measured in the open run; where nothing was, says how to measure it."""
    try:
        found, strange = comparisons.evidence(name), comparisons.strange_methods(name)
    except EvidenceError as damaged:
        st.error(f"The evidence of this run cannot be read. {plain(damaged)}", icon=":material/error:")
        return None
    if found is None:
        st.info(
            "Nothing was compared in this run yet. Every method is measured at every budget on the evaluation "
            "samples, with several calibration draws; that takes minutes for the bundled model. Under Methods by "
            "budget, or at the command line, where the model is:",
            icon=":material/science:",
        )
        st.code(comparing.command(current_run.run_entry()), language="bash")
    if strange:
        st.warning(
            f"The evidence names methods that this version does not know: {plain(', '.join(strange))}; left out. They "
            "are a newer version's, or of a plug-in that is not here.",
            icon=":material/extension_off:",
        )
    if found is not None and not known_items(found):
        st.info("The evidence of this run holds no measurement that this version can show.", icon=":material/science:")
        return None
    return found


def known_items(found: Evidence) -> list[str]:
    """Kinds of items that were measured by a metric that is shown."""
    return [
        name for name in names.ITEMS if name in set(found.scores.loc[found.scores["metric"].isin(METRICS), "modality"])
    ]


def told(found: Evidence) -> None:
    """How the evidence came about, in a line."""
    info, settings = found.info, found.info.get("settings", {})
    parts = [f"{plain(info[key])} {words}" for key, words in _COUNTED.items() if info.get(key)]
    draws = int(info.get("draws", found.scores["calibration"].max() + 1))
    kind = f" ({plain(info['calibration_draws'])})" if "calibration_draws" in info else ""
    parts.append(f"{draws} calibration draws{kind}" if draws > 1 else "one calibration")
    if widths := settings.get("request", settings).get("widths"):  # earlier versions wrote its fields one by one
        parts.append(f"widths {plain(' '.join(map(str, widths)))}")
    unknown = " It does not say how many items differ, as an earlier version made it: verdicts go by intervals alone."
    st.caption(f"Measured, not estimated: {', '.join(parts)}. Intervals are 95 %, over items and calibration draws."
               f"{unknown if found.paired['apart'].isna().any() else ''}")  # fmt: skip


def choose_items(place: st.delta_generator.DeltaGenerator, found: set[str]) -> str:
    """Which items are looked at, of those that there are."""
    held = [name for name in names.ITEMS if name in found]
    bound = address.bind_place("modality", held, held[0])
    return place.segmented_control("Items", held, format_func=names.ITEMS.get, required=True, **bound)
