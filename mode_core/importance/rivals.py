"""Published rivals as costs, each with its source.

Mixture Compressor (PMQ, arXiv 2410.06270): φ^α·w^β·ε^γ, where φ is an expert's share of selections, w its share of
routing weight, and ε the Frobenius norm of the error in the bank's output when that expert alone is quantized.
Its text gives (α, β, γ) = (1, 1.5, 2); its released solver raises ε to α instead, which is (1, 1.5, 1). It asks for
at least one expert at each of its two higher widths {2, 3} in every bank (`allocate(…, at_least={2: 1, 3: 1})`).

REAP (arXiv 2510.13999): an expert's saliency is the mean over its tokens of routing weight × norm of its output; the
experts of least saliency are left out. Published for all tokens alike; ours takes the mean over text and over key
tokens apart and adds them, and weighs 4^−b with it so that other widths than 0 can be chosen, too. An expert that no
token reached has saliency 0, as published: it is the first to go.

MoPEQ (arXiv 2509.02512): an expert's sensitivity is the Hutchinson estimate of the Hessian trace of ‖W‖_F, probes
of unit norm, summed over gate, up and down. ‖W‖_F has the Hessian (I − w·wᵀ/‖w‖²)/‖w‖ in the n entries of W, whose
trace is (n − 1)/‖W‖_F; a probe spread evenly over the unit sphere gives (n − 1)/(n·‖W‖_F) on average. Data-free.
"""

from __future__ import annotations

import numpy as np

from mode_core.importance.frequency import share
from mode_core.importance.stacks import ImportanceError, Stack, View
from mode_core.modalities import ALL

PAPER = (1.0, 1.5, 2.0)
RELEASED = (1.0, 1.5, 1.0)


def mixture_compressor(view: View, exponents: tuple[float, float, float]) -> np.ndarray:
    """φ^α·w^β·ε^γ over all calibration tokens: `[N, E, B]`, 0 for experts that no token reached."""
    of_selections, of_weight, of_error = exponents
    significance = share(view.sums(ALL, "selections")) ** of_selections * share(view.sums(ALL, "weight")) ** of_weight
    return significance[..., None] * np.sqrt(view.sums(ALL, "gated_error")) ** of_error


def mean_saliency(view: View, kind: str) -> np.ndarray:
    """Mean of ‖w·E(x)‖ over the tokens of one kind that an expert gets: `[N, E]`, 0 where it gets none."""
    tokens = view.sums(kind, "selections")
    return np.divide(view.sums(kind, "saliency"), tokens, out=np.zeros(tokens.shape), where=tokens > 0)


def mopeq_trace(stack: Stack) -> np.ndarray:
    """Σ over matrices of (n − 1)/(n·‖W‖_F): `[N, E]`, higher for experts with smaller weights."""
    shape, norms = stack.shape, stack.total("weight_norm")
    entries = shape.hidden * shape.intermediate
    norms = norms[..., 0 if shape.has_gate else 1 :]
    if (norms <= 0).any():
        raise ImportanceError("These statistics hold no weight norms, which MoPEQ needs. Calibrate again.")
    return ((entries - 1) / (entries * norms)).sum(axis=-1)
