"""What a measurement says of the two that compete for the same bytes, in a sentence; no Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboard.state.choices import describe
from dashboard.state.measured import ALLOCATION, ORIGINAL, UNIFORM, Measurement
from dashboard.words.names import VERDICTS
from dashboard.words.sizes import size_text
from mode_core.evaluation.answer_rows import AnswerRow, side_by_side
from mode_core.evaluation.records import normalised
from mode_core.evaluation.verdicts import Paired, paired

WHO = ("All that differ", "This allocation parts", "Uniform parts", "Both part")


def of(found: Measurement, measure: str) -> Paired | None:
    """This allocation against its rival; None where no item has the measure."""
    return paired(found.scores[ALLOCATION], found.scores[UNIFORM], measure)


def sentence(found: Measurement) -> tuple[str, str]:
    """The verdict, and its tone: "better", "worse" or "level". Where KL and answers disagree it is "level"."""
    parts, tones = [], set()
    for measure, title in (("kl", "by distance to the original"), ("correct", "by exact answers")):
        if (one := of(found, measure)) is not None:
            parts.append(f"**{VERDICTS[one.verdict]} {title}** ({_numbers(one)})")
            tones.add(one.verdict)
    if not parts:
        return "These items have neither answers nor a distance to the original, so there is no verdict.", "level"
    items = len(found.scores[ORIGINAL].answers)
    sizes = [size_text(found.measured_bytes[model]) for model in (ALLOCATION, UNIFORM)]
    text = f"This allocation ({sizes[0]}) against {found.label(UNIFORM)} ({sizes[1]}) on {items} items: "
    tone = "level" if {"better", "worse"} <= tones else next(iter(tones - {"level"}), "level")
    return f"{text}{', '.join(parts)}. Differences on the same items, with 95 % intervals.", tone


def _numbers(one: Paired) -> str:
    if not one.apart:
        return f"none of {one.items} items differs"
    few = f"; only {one.apart} of {one.items} items differ" if one.verdict == "level" and one.apart < 10 else ""
    if one.measure == "kl":
        return f"KL {one.mean:+.3g} nats, {one.low:+.3g} to {one.high:+.3g}{few}"
    return f"{100 * one.mean:+.1f} points, {100 * one.low:+.1f} to {100 * one.high:+.1f}{few}"


def history(known: Sequence[Measurement], now: str) -> pd.DataFrame:
    """One row per measurement, as given; `now` is the fingerprint of the present settings."""
    rows = []
    for found in known:
        kl, right = of(found, "kl"), of(found, "correct")
        rows.append(
            {
                "made": pd.Timestamp(found.made, unit="s"),
                "settings": describe(found.settings),
                "present settings": found.fingerprint == now,
                "against": found.label(UNIFORM),
                "items": len(found.scores[ORIGINAL].answers),
                "KL here": found.scores[ALLOCATION].kl,
                "KL uniform": found.scores[UNIFORM].kl,
                "by distance": VERDICTS[kl.verdict] if kl else "–",
                "answers here": found.scores[ALLOCATION].accuracy,
                "answers uniform": found.scores[UNIFORM].accuracy,
                "by answers": VERDICTS[right.verdict] if right else "–",
            }
        )
    return pd.DataFrame(rows)


def parted(row: AnswerRow, model: str) -> bool:
    """Does this model say something else than the original?"""
    return normalised(row.given[model]) != normalised(row.given[ORIGINAL])


def broken(found: Measurement) -> dict[str, list[AnswerRow]]:
    """The items that the three do not answer alike, by who parts from the original: a name of `WHO` → rows."""
    rows = [row for row in side_by_side(found.scores) if row.differs]
    ours, theirs = ({row.id for row in rows if parted(row, model)} for model in (ALLOCATION, UNIFORM))
    groups = (ours | theirs, ours - theirs, theirs - ours, ours & theirs)
    return {who: [row for row in rows if row.id in ids] for who, ids in zip(WHO, groups, strict=True)}
