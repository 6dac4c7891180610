"""Damage weighed with gradients: by how much rounding an expert changes what the model says.

Calibration with gradients sums, for every token t routed to expert e with weight w, the Fisher damage
Σ_d g_d²·(w·(E(x) − E_b(x)))_d², g the gradient of the log-likelihood of the model's own answer at the bank's output. It
estimates the change of the answers' distribution (twice the KL divergence, to second order, diagonal part), and that is
one unit for all banks, so a budget may be shared between them. `soft_fisher` is the same for the distribution at a
higher temperature, which still moves where the model is sure of its answer (ours; see `calibration.gradients`).

VEQ (arXiv 2602.01037, VEQ-ME) weighs how often text and vision choose an expert: S = γ·N_text + β·N_vision, with
γ = ‖g_text‖/‖g_vision‖ (its authors find about 22) and β = T_text/T_vision. Ours is an adaptation: γ is measured, as
the ratio of the root mean square gradients per token over all banks, and S weighs the measured damage. Audio tokens are
no part of S, which knows two kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mode_core.importance.sensitivity import data_free
from mode_core.importance.stacks import View
from mode_core.modalities import ALL, TEXT_TOKENS, USUAL, VISION_TOKENS


def fisher_cost(
    view: View, parts: Sequence[tuple[str, float]], min_support: int, sums: str = "fisher"
) -> tuple[np.ndarray, np.ndarray]:
    """Σ over kinds of weight · (Fisher damage summed over tokens of that kind) / (tokens of that kind): `[N, E, B]`.

    Also `[N, E]`: experts that fewer than `min_support` tokens of these kinds reached. They get the data-free
    estimate, scaled by the bank's measured experts, as if one token of each kind had been routed to them. `sums` is
    "fisher" or "soft_fisher".
    """
    kinds = [(kind, weight) for kind, weight in parts if weight != 0]
    share = {kind: _one_token(view, kind) for kind, _ in kinds}
    cost = sum(weight * share[kind] * view.sums(kind, sums) for kind, weight in kinds)
    unsupported = np.sum([view.sums(kind, "fisher_support") for kind, _ in kinds], axis=0) < min_support
    if unsupported.any():
        free = sum(weight * share[kind] for kind, weight in kinds) * estimated_fisher(view, min_support, sums)
        cost = np.where(unsupported[..., None], free, cost)
    return cost, unsupported


def _one_token(view: View, kind: str) -> np.ndarray:
    """1 / tokens of one kind, `[N, 1, 1]`; 0 where there are none."""
    tokens = view.sums(kind, "fisher_tokens")[:, None, None]
    return np.divide(1.0, tokens, out=np.zeros_like(tokens), where=tokens > 0)


def estimated_fisher(view: View, min_support: int = 1, sums: str = "fisher") -> np.ndarray:
    """Fisher damage of one routed token where none was measured, `[N, E, B]`: the error that the weights alone let
    expect, times one factor per bank, the median over its measured experts and widths of measured ÷ expected."""

    def make() -> np.ndarray:
        support = view.sums(ALL, "fisher_support")[..., None]
        measured = np.divide(view.sums(ALL, sums), support, out=np.zeros(free.shape), where=support > 0)
        usable = (support >= max(min_support, 1)) & (free > 0)
        ratio = np.where(usable, measured / np.where(free > 0, free, 1), np.nan).reshape(len(free), -1)
        factor = np.array([np.nanmedian(row) if np.isfinite(row).any() else 0.0 for row in ratio])
        return free * factor[:, None, None]

    free = data_free(view.stack)
    return view.stack.keep(("estimated", sums, view.signal, min_support), make)


def gradient_ratio(views: Sequence[View]) -> float:
    """γ = root mean square ‖g‖ of text tokens ÷ that of vision tokens, over all banks; inf where vision has none."""
    mean = {}
    for kind in USUAL:
        energy = sum(view.sums(kind, "gradient_energy").sum() for view in views)
        tokens = sum(view.sums(kind, "fisher_tokens").sum() for view in views)
        mean[kind] = energy / tokens if tokens > 0 else 0.0
    vision = mean[VISION_TOKENS]
    return float(np.sqrt(mean[TEXT_TOKENS] / vision)) if vision > 0 else np.inf


def veq_significance(view: View, gamma: float) -> np.ndarray:
    """S = γ·N_text + β·N_vision as a share of the bank, `[N, E]`; every row sums to 1 (no tokens: zeros).

    β = T_text/T_vision of the bank. Where γ is infinite (no vision token has a gradient) only text counts.
    """
    text, vision = (view.sums(kind, "selections") for kind in USUAL)
    tokens, seen = (view.sums(kind, "tokens")[:, None] for kind in USUAL)
    beta = np.divide(tokens, seen, out=np.zeros_like(tokens), where=seen > 0)
    significance = text + beta / gamma * vision  # S / γ, which stays finite
    total = significance.sum(axis=-1, keepdims=True)
    return np.divide(significance, total, out=np.zeros_like(significance), where=total > 0)


def hessian_cost(view: View, min_support: int) -> tuple[np.ndarray, np.ndarray]:
    """Σ over matrices of mean Hessian diagonal · ‖W − W_b‖²: `[N, E, B]`, and who no token reached, `[N, E]`.

    HAWQ-V2 (arXiv 1911.03852) with experts for layers: tr(H)/n·‖W − W_b‖², the expected second-order change of the
    loss (twice) where rounding errors are independent. A trace that was estimated below zero counts as zero; experts
    without tokens get the trace of one token, the median over the bank's others.
    """
    shape, stack = view.stack.shape, view.stack
    samples = stack.total("hessian_samples")[:, None, None]
    trace = np.divide(stack.total("hessian_trace"), samples, out=np.zeros(stack.total("hessian_trace").shape),
                      where=samples > 0)  # fmt: skip
    trace, support = np.maximum(trace, 0), view.sums(ALL, "selections")
    unsupported = support < min_support
    for bank in np.flatnonzero(unsupported.any(axis=-1) & ~unsupported.all(axis=-1)):
        known = ~unsupported[bank]
        trace[bank, ~known] = np.median(trace[bank, known] / support[bank, known, None], axis=0)
    diagonal = trace / (shape.hidden * shape.intermediate)
    return np.einsum("nem,nebm->neb", diagonal, stack.total("weight_error")), unsupported
