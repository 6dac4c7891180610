"""How far apart the frequencies of text, vision and all tokens are in each bank: the biases that MODE corrects.

Paper §4: vision tokens outnumber text, so the aggregate frequency hides experts that text needs (masked experts);
and most vision tokens are redundant, so raw vision frequency hides what key tokens need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mode_core.importance.frequency import stacked_shares
from mode_core.importance.stacks import KINDS, ImportanceError, View, in_order, views
from mode_core.statistics import ExpertStatistics

TOP_QUARTER, LOWER_HALF = 0.25, 0.5


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence in bits, shares `[…, E]` → `[…]`: 0 where equal, 1 where they never overlap.

    The square of `scipy.spatial.distance.jensenshannon(…, base=2)`.
    """
    middle = (one + other) / 2
    return np.clip((_relative_entropy(one, middle) + _relative_entropy(other, middle)) / 2, 0.0, 1.0)


def _relative_entropy(share: np.ndarray, base: np.ndarray) -> np.ndarray:
    ratio = np.divide(share, base, out=np.ones_like(share), where=share > 0)
    return (share * np.log2(ratio)).sum(axis=-1)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1…E from the lowest, ties share their mean rank: `[…, E]` → `[…, E]`."""
    order = np.argsort(values, axis=-1, kind="stable")
    rising = np.take_along_axis(values, order, axis=-1)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    fresh = np.ones(values.shape, dtype=bool)
    fresh[..., 1:] = rising[..., 1:] != rising[..., :-1]
    last = np.ones(values.shape, dtype=bool)
    last[..., :-1] = fresh[..., 1:]
    first_place = np.maximum.accumulate(np.where(fresh, place, 0), axis=-1)
    behind = np.where(last, place, values.shape[-1])[..., ::-1]
    last_place = np.minimum.accumulate(behind, axis=-1)[..., ::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first_place + last_place) / 2 + 1, axis=-1)
    return found


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman rank correlation, `[…, E]` → `[…]`, −1 to 1; nan where all values of one side are equal."""
    first, second = (ranks(side) - (side.shape[-1] + 1) / 2 for side in (one, other))
    spread = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    together = (first * second).sum(axis=-1)
    return np.divide(together, spread, out=np.full_like(together, np.nan), where=spread > 0)


def entropy(share: np.ndarray) -> np.ndarray:
    """Entropy of the shares in bits, `[…, E]` → `[…]`: log2(E) where all experts are used alike."""
    return -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=-1)


def load_balance(share: np.ndarray) -> np.ndarray:
    """Effective share of experts in use, 1/(E·Σf²), `[…, E]` → `[…]`: 1 where all are used alike, 1/E where one is."""
    return 1.0 / (share.shape[-1] * (share**2).sum(axis=-1))


def masked_experts(text: np.ndarray, aggregate: np.ndarray) -> np.ndarray:
    """Experts in the top quarter by text and in the lower half in aggregate: `[…, E]` → bool `[…, E]`.

    By rank, lowest first, ties by mean rank: text rank above ¾·E, aggregate rank at most E/2.
    """
    count = text.shape[-1]
    return (ranks(text) > (1 - TOP_QUARTER) * count) & (ranks(aggregate) <= LOWER_HALF * count)


def rank_shift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Places each expert rises from `one` to `other`, `[…, E]`; positive: more important in `other`."""
    return ranks(other) - ranks(one)


@dataclass(frozen=True)
class BankBias:
    """One bank's biases. Dictionaries are by kind of token, or by pair of kinds in the order of `PAIRS`.

    `divergence` Jensen–Shannon in bits, `correlation` Spearman, `entropy` bits, `balance` in (0, 1]; pairs with a
    kind that no token belongs to are nan. `masked` bool `[E]`. `vision_share`: vision tokens of all tokens.
    """

    divergence: Mapping[tuple[str, str], float]
    correlation: Mapping[tuple[str, str], float]
    entropy: Mapping[str, float]
    balance: Mapping[str, float]
    masked: np.ndarray
    vision_share: float


PAIRS = (  # any two kinds of token
    ("text", "vision"),
    ("text", "key"),
    ("text", "redundant"),
    ("text", "all"),
    ("key", "vision"),
    ("key", "redundant"),
    ("key", "all"),
    ("redundant", "vision"),
    ("redundant", "all"),
    ("vision", "all"),
)


def biases(
    statistics: ExpertStatistics, key_ratio: float = 0.20, signal: str = "text_attention"
) -> dict[str, BankBias]:
    """Biases of every bank, name → `BankBias`; arguments and refusals as in `frequencies`."""
    found = {}
    for view in views(statistics, key_ratio, signal):
        found |= dict(zip(view.stack.names, _of_stack(view), strict=True))
    return in_order(statistics, found)


def _of_stack(view: View) -> list[BankBias]:
    shares, none = stacked_shares(view)

    def known(values: np.ndarray, *kinds: str) -> np.ndarray:
        return np.where(np.any([none[kind] for kind in kinds], axis=0), np.nan, values)

    divergence = {(a, b): known(jensen_shannon(shares[a], shares[b]), a, b) for a, b in PAIRS}
    correlation = {(a, b): known(spearman(shares[a], shares[b]), a, b) for a, b in PAIRS}
    spread = {kind: known(entropy(shares[kind]), kind) for kind in KINDS}
    balance = {kind: known(load_balance(shares[kind]), kind) for kind in KINDS}
    masked = masked_experts(shares["text"], shares["all"]) & ~none["text"][:, None]
    text, vision = view.sums("text", "tokens"), view.sums("vision", "tokens")
    part = np.divide(vision, text + vision, out=np.full_like(text, np.nan), where=text + vision > 0)

    def row(values: Mapping, number: int) -> dict:
        return {name: float(array[number]) for name, array in values.items()}

    return [
        BankBias(row(divergence, n), row(correlation, n), row(spread, n), row(balance, n), masked[n], float(part[n]))
        for n in range(len(masked))
    ]


def importance_ranks(costs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rank of every expert within its bank by what its most bits save over its fewest: bank → `[E]`, 1 = least.

    Raises:
        ImportanceError: costs of one width only, which cannot tell experts apart.
    """
    if any(table.shape[-1] < 2 for table in costs.values()):
        raise ImportanceError("Ranks need costs at two widths or more; the table holds one.")
    columns = np.argsort(getattr(costs, "bits", range(next(iter(costs.values())).shape[-1])))
    return {name: ranks(table[:, columns[0]] - table[:, columns[-1]]) for name, table in costs.items()}
