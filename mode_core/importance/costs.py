"""From statistics to the cost of every expert at every width, by the method's name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mode_core.importance.logit_kl import check_measured_at
from mode_core.importance.methods import METHODS, Options
from mode_core.importance.records import CostTable
from mode_core.importance.stacks import ImportanceError, in_order, key_bins, views
from mode_core.modalities import KEY_RATIO, SIGNAL, USUAL
from mode_core.statistics import ExpertStatistics


def cost_table(
    statistics: ExpertStatistics,
    method: str = "mode",
    key_ratio: float = KEY_RATIO,
    signal: str = SIGNAL,
    vision_weight: float = 1.0,
    bits: Sequence[int] = (2, 3, 4),
    min_support: int = 1,
    seed: int = 0,
    leave_out_fold: int | None = None,
    shrinkage: float = 0.0,
    audio_weight: float = 1.0,
) -> CostTable:
    """Predicted damage of every expert at every width: a `CostTable`, bank name → `[E, B]`.

    Args:
        statistics: what calibration measured; not changed, and its sums are kept for the next call.
        method: a name in `METHODS`.
        key_ratio: share of vision tokens that are key, in (0, 1], whole per cents.
        signal: what ranked the vision tokens; "none" takes all of them as key.
        vision_weight: α on the vision part, at least 0 (paper: 1).
        audio_weight: β on the audio part, at least 0; like α it is 1 where nobody says otherwise, so that no kind of
            token outvotes another. It has no effect on statistics without audio tokens.
        bits: widths wanted, each of them measured in `statistics`; the columns' order.
        min_support: fewest measured tokens that make an expert's damage count as measured, at least 1.
        seed: only for the method "random".
        leave_out_fold: without the samples of this fold (jackknife).
        shrinkage: λ in [0, 1] of (1 − λ)·c(e, b) + λ·mean over the bank of c(·, b): 0 is the estimate as it is, 1 makes
            all experts of a bank alike (ours: an insurance against questions that the samples did not hold).

    Raises:
        ImportanceError: a setting out of range, with the values that are possible; or statistics measured without
            what the method needs (gradients, say).
    """
    check_settings(method, key_ratio, vision_weight, min_support, shrinkage, audio_weight)
    METHODS[method].check(statistics)
    if METHODS[method].needs == "logit_kl":
        check_measured_at(statistics, key_ratio, signal)
    columns = _columns(statistics, bits)
    seen = views(statistics, key_ratio, signal, leave_out_fold)
    options = Options(float(vision_weight), statistics.bits, int(min_support), int(seed), seen, float(audio_weight))
    chosen, costs, unsupported = METHODS[method], {}, {}
    for view in seen:
        cost, missing = chosen.function(view, options)
        cost = cost[..., columns]
        if shrinkage:
            cost = (1 - shrinkage) * cost + shrinkage * cost.mean(axis=1, keepdims=True)
        for row, name in enumerate(view.stack.names):
            costs[name], unsupported[name] = cost[row], missing[row]
    settings = {
        "key_ratio": float(key_ratio),
        "signal": signal,
        "vision_weight": float(vision_weight),
        "min_support": int(min_support),
        "shrinkage": float(shrinkage),
    }
    if statistics.modalities != USUAL:
        settings["audio_weight"] = float(audio_weight)
    return CostTable(
        in_order(statistics, costs),
        tuple(int(width) for width in bits),
        method,
        settings | ({"seed": int(seed)} if method == "random" else {}),
        chosen.comparable,
        in_order(statistics, unsupported),
    )


def check_settings(
    method: str,
    key_ratio: float,
    vision_weight: float,
    min_support: int,
    shrinkage: float,
    audio_weight: float = 1.0,
) -> None:
    """Refuse what no statistics could answer.

    Raises:
        ImportanceError: the setting, its value, and what is possible.
    """
    if method not in METHODS:
        raise ImportanceError(f"There is no importance method {method!r}; choose one of: {', '.join(METHODS)}.")
    key_bins(key_ratio)
    for name, weight in (("vision_weight", vision_weight), ("audio_weight", audio_weight)):
        if not np.isfinite(weight) or weight < 0:
            raise ImportanceError(f"{name} must be a number of at least 0; got {weight!r}.")
    if min_support < 1:
        raise ImportanceError(f"min_support counts tokens and must be at least 1; got {min_support!r}.")
    if not 0 <= shrinkage <= 1:
        raise ImportanceError(
            f"shrinkage must lie in [0, 1]; got {shrinkage!r}. 0 keeps every expert's own cost, 1 gives all experts of "
            "a bank the same."
        )


def _columns(statistics: ExpertStatistics, bits: Sequence[int]) -> list[int]:
    missing = [width for width in bits if width not in statistics.bits]
    if missing or not bits or len(set(bits)) < len(bits):
        raise ImportanceError(
            f"bits {tuple(bits)} must be different widths out of those measured in calibration, "
            f"{tuple(statistics.bits)}. Leave the others out, or calibrate again with them."
        )
    return [statistics.bits.index(width) for width in bits]
