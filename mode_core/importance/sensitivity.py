"""Damage that quantizing one expert does to tokens of one kind, measured, and estimated where none was routed.

Measured (paper §5): δ_M(e, b) = mean over the tokens x of kind M that were routed to e of (1/d)·‖E(x) − E_b(x)‖²,
metric `expert_mse`. Metric `output_mse` (ours) weighs every token's error with its squared routing weight g² and
divides by the mean energy of the bank's output over tokens of that kind, so that banks can be compared.

Estimated (ours), for experts that too few tokens reached. With isotropic inputs of the bank's mean energy ε:
gate and up outputs have variance s² = ε‖W‖²/(H·I), SiLU passes a quarter of it for small inputs, so the expert's
output energy is about A = ‖W_down‖²·s_gate²·s_up²/4 (without a gate: ‖W_down‖²·s_up²/2). The three matrices'
relative errors add up: ‖E − E_b‖² ≈ A·Σ_m ‖W_m − W_m,b‖²/‖W_m‖², and A at 0 bits. Real inputs are not isotropic, so
the estimate is multiplied by one factor per bank: the median, over its measured experts and widths, of measured ÷
estimated.
"""

from __future__ import annotations

import numpy as np

from mode_core.importance.stacks import ImportanceError, Stack, View
from mode_core.modalities import ALL
from mode_core.quantization.widths import DROPPED

METRICS = ("expert_mse", "output_mse")


def measured(view: View, kind: str, metric: str = "expert_mse") -> np.ndarray:
    """δ of one kind of token: `[N, E, B]`, squared error per output dimension (or relative, `output_mse`).

    Zero where no token of that kind was measured.
    """
    support = view.sums(kind, "support")[..., None]
    unit: float | np.ndarray
    if metric == "expert_mse":
        errors, unit = view.sums(kind, "error"), float(view.stack.shape.hidden)
    elif metric == "output_mse":
        errors, unit = view.sums(kind, "gated_error"), _mean_energy(view, kind)[:, None, None]
    else:
        raise ImportanceError(f"There is no metric {metric!r}; choose one of {', '.join(METRICS)}.")
    return np.divide(errors, support * unit, out=np.zeros_like(errors), where=support * unit > 0)


def _mean_energy(view: View, kind: str) -> np.ndarray:
    """Mean ‖bank output‖² over tokens of that kind, `[N]`; 0 where there are none."""
    tokens, energy = view.sums(kind, "tokens"), view.sums(kind, "energy")
    if np.any((view.sums(kind, "gated_error").sum(axis=(1, 2)) > 0) & (energy <= 0)):
        raise ImportanceError(
            f"These statistics hold no output energy for {kind} tokens, which the metric 'output_mse' divides by. "
            "Calibrate again, or choose the metric 'expert_mse'."
        )
    return np.divide(energy, tokens, out=np.zeros_like(energy), where=tokens > 0)


def damage(view: View, kind: str, metric: str = "expert_mse", min_support: int = 1) -> np.ndarray:
    """δ with gaps filled, `[N, E, B]`: measured; estimated where tokens were routed but too few were measured;
    zero where no token of that kind was routed."""
    support, routed = view.sums(kind, "support"), view.sums(kind, "selections") > 0
    thin = (support < min_support) & routed
    delta = np.where(routed[..., None], measured(view, kind, metric), 0.0)
    return np.where(thin[..., None], estimated(view, metric, min_support), delta) if thin.any() else delta


def estimated(view: View, metric: str = "expert_mse", min_support: int = 1) -> np.ndarray:
    """δ where the method's own tokens tell nothing, `[N, E, B]`: over all tokens if these reached the expert,
    else from the weights alone (see the head of this file). The same for every key ratio."""

    def make() -> np.ndarray:
        over_all = measured(view, ALL, metric)
        known = (view.sums(ALL, "support") >= max(min_support, 1))[..., None]
        free = data_free(view.stack)
        usable = known & (free > 0) & (over_all > 0)
        ratio = np.where(usable, over_all / np.where(free > 0, free, 1), np.nan).reshape(len(free), -1)
        factor = np.array([np.nanmedian(row) if np.isfinite(row).any() else 1.0 for row in ratio])
        return np.where(known, over_all, free * factor[:, None, None])

    return view.stack.keep(("estimated", view.signal, metric, min_support), make)


def data_free(stack: Stack) -> np.ndarray:
    """Estimate from the weights and the bank's mean token energy, `[N, E, B]`, per output dimension."""
    shape = stack.shape
    norms, errors = stack.total("weight_norm") ** 2, stack.total("weight_error")
    tokens, energy = stack.total("input_tokens"), stack.total("input_energy")
    mean_energy = np.divide(energy, tokens, out=np.ones_like(energy), where=tokens > 0)[:, None]
    variance = mean_energy[..., None] * norms / (shape.hidden * shape.intermediate)
    gate, up, down = variance[..., 0], variance[..., 1], norms[..., 2]
    output = down * (gate * up / 4 if shape.has_gate else up / 2)
    matrices = slice(0 if shape.has_gate else 1, 3)
    scale = np.broadcast_to(norms[:, :, None, :], errors.shape)
    relative = np.divide(errors, scale, out=np.zeros_like(errors), where=scale > 0)[..., matrices].sum(axis=-1)
    dropped = np.array(stack.banks[0].bits) == DROPPED  # then nothing is left of the output, whichever matrix one asks
    return output[..., None] * np.where(dropped, 1.0, relative) / shape.hidden
