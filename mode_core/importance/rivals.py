"""Published rivals as costs, and one published clustering, each with its source.

Mixture Compressor (PMQ, arXiv 2410.06270): φ^α·w^β·ε^γ, where φ is an expert's share of selections, w its share of
routing weight, and ε the Frobenius norm of the error in the bank's output when that expert alone is quantized.
Its text gives (α, β, γ) = (1, 1.5, 2); its released solver raises ε to α instead, which is (1, 1.5, 1). It asks for
at least one expert at each of its two higher widths {2, 3} in every bank (`allocate(…, at_least={2: 1, 3: 1})`).

MoPEQ (arXiv 2509.02512): an expert's sensitivity is the Hutchinson estimate of the Hessian trace of ‖W‖_F, probes
of unit norm, summed over gate, up and down. ‖W‖_F has the Hessian (I − w·wᵀ/‖w‖²)/‖w‖ in the n entries of W, whose
trace is (n − 1)/‖W‖_F; a probe spread evenly over the unit sphere gives (n − 1)/(n·‖W‖_F) on average. Data-free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mode_core.importance.frequency import share
from mode_core.importance.stacks import ImportanceError, Stack, View, in_order, stacks
from mode_core.statistics import ExpertStatistics

PAPER = (1.0, 1.5, 2.0)
RELEASED = (1.0, 1.5, 1.0)
RESTARTS = 20  # of k-means, from random centres; the best is kept


def mixture_compressor(view: View, exponents: tuple[float, float, float]) -> np.ndarray:
    """φ^α·w^β·ε^γ over all calibration tokens: `[N, E, B]`, 0 for experts that no token reached."""
    of_selections, of_weight, of_error = exponents
    significance = (
        share(view.sums("all", "selections")) ** of_selections * share(view.sums("all", "weight")) ** of_weight
    )
    return significance[..., None] * np.sqrt(view.sums("all", "gated_error")) ** of_error


def mopeq_trace(stack: Stack) -> np.ndarray:
    """Σ over matrices of (n − 1)/(n·‖W‖_F): `[N, E]`, higher for experts with smaller weights."""
    shape, norms = stack.shape, stack.total("weight_norm")
    entries = shape.hidden * shape.intermediate
    norms = norms[..., 0 if shape.has_gate else 1 :]
    if (norms <= 0).any():
        raise ImportanceError("These statistics hold no weight norms, which MoPEQ needs. Calibrate again.")
    return ((entries - 1) / (entries * norms)).sum(axis=-1)


def mopeq_bits(
    statistics: ExpertStatistics, bits: Sequence[int] = (2, 3, 4), per_bank: bool = True, seed: int = 0
) -> dict[str, np.ndarray]:
    """MoPEQ's own assignment: bank → bits `[E]`. K-means on the trace, one cluster per width, highest trace most bits.

    Clusters are found in every bank (`per_bank`) or over the model. The average is what comes out; no budget is kept.
    With fewer different traces than widths, the highest widths are used.
    """
    traces = {
        name: row for stack in stacks(statistics) for name, row in zip(stack.names, mopeq_trace(stack), strict=True)
    }
    traces = in_order(statistics, traces)
    if per_bank:
        return {name: _clustered(row, bits, seed) for name, row in traces.items()}
    lengths = np.cumsum([len(row) for row in traces.values()])[:-1]
    whole = np.split(_clustered(np.concatenate(list(traces.values())), bits, seed), lengths)
    return dict(zip(traces, whole, strict=True))


def _clustered(trace: np.ndarray, bits: Sequence[int], seed: int) -> np.ndarray:
    from scipy.cluster.vq import kmeans, vq  # fetched here: half a second that a first page should not wait for

    clusters = min(len(bits), len(np.unique(trace)))
    scaled = ((trace - trace.mean()) / (trace.std() or 1.0))[:, None]
    centres = np.sort(kmeans(scaled, clusters, iter=RESTARTS, rng=seed)[0], axis=0)
    return np.sort(np.asarray(bits))[len(bits) - len(centres) :][vq(scaled, centres)[0]]
