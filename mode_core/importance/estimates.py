"""Every importance estimate as one small function, all with one signature.

An estimate takes a `View` (banks of one shape at one key ratio) and `Options`, and returns the predicted damage
`[N, E, B]` of every expert at every width, and `[N, E]`, true where too few tokens reached an expert to measure it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mode_core.importance import fisher as weighed
from mode_core.importance import rivals
from mode_core.importance.frequency import one_token_share, share
from mode_core.importance.logit_kl import kl_cost
from mode_core.importance.sensitivity import damage, estimated
from mode_core.importance.stacks import View
from mode_core.modalities import ALL, KEY_TOKENS, KINDS, MODALITIES, REDUNDANT_TOKENS

Parts = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Options:
    """What a method may use beside its view: α on vision, β on audio, the widths measured, least tokens, a seed, and
    the views of all banks, for what is measured over the whole model."""

    vision_weight: float = 1.0
    bits: tuple[int, ...] = (2, 3, 4)
    min_support: int = 1
    seed: int = 0
    views: tuple[View, ...] = field(default=(), repr=False)
    audio_weight: float = 1.0

    def weight(self, modality: str) -> float:
        """How much damage to its tokens counts beside damage to text: the field `<modality>_weight`; 1 for text."""
        return getattr(self, f"{modality}_weight", 1.0)


def weighted(view: View, options: Options, parts: Parts, metric: str = "expert_mse") -> tuple[np.ndarray, np.ndarray]:
    """Σ over kinds of weight · frequency · damage, `[N, E, B]`, and who was not reached, `[N, E]`.

    An expert that fewer than `min_support` measured tokens of these kinds reached gets the estimated damage,
    with at least the frequency that a single token of each kind would have: never zero, and small where data are many.
    """
    kinds = [(kind, weight) for kind, weight in parts if weight != 0]
    cost = sum(
        weight * share(view.sums(kind, "selections"))[..., None] * damage(view, kind, metric, options.min_support)
        for kind, weight in kinds
    )
    unsupported = np.sum([view.sums(kind, "support") for kind, _ in kinds], axis=0) < options.min_support
    if unsupported.any():
        least = sum(weight * one_token_share(view, kind) for kind, weight in kinds)
        least = np.where(least > 0, least, 1 / view.stack.shape.experts)
        free = least[..., None] * estimated(view, metric, options.min_support)
        cost = np.where(unsupported[..., None], np.maximum(free, cost), cost)
    return cost, unsupported


def counted(view: View, options: Options, part: str = KEY_TOKENS) -> Parts:
    """The kinds of token that the paper counts, with their weights; `part` in the place of the key tokens. Modalities
    that no token was of are left out, so that the paper's two are all where there is no audio."""
    kinds = {(KINDS[kind].modality, KINDS[kind].part): kind for kind in view.kinds}
    return tuple(
        (kinds[name, part if MODALITIES[name].ranked else ALL], options.weight(name)) for name in view.stack.modalities
    )


def noise(bits: tuple[int, ...]) -> np.ndarray:
    """Rounding noise by width when nothing is known of an expert: 4^−b, a quarter for every bit more, `[B]`."""
    return 4.0 ** -np.asarray(bits, dtype=float)


def mode(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·δ_text + α·f_key·δ_key (paper §5); with audio + β·f_key_audio·δ_key_audio (ours)."""
    return weighted(view, options, counted(view, options))


def mode_output(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """The same with the error in the bank's output, g²·‖E − E_b‖² relative to the output's mean energy."""
    return weighted(view, options, counted(view, options), "output_mse")


def frequency(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_all·δ_all, all tokens alike."""
    return weighted(view, options, ((ALL, 1.0),))


def text_and_vision(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·δ_text + α·f_vision·δ_vision."""
    return weighted(view, options, counted(view, options, ALL))


def text_and_redundant(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·δ_text + α·f_redundant·δ_redundant."""
    return weighted(view, options, counted(view, options, REDUNDANT_TOKENS))


def frequency_only(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(f_text + α·f_key)·4^−b; a kind of token that the bank never saw adds nothing."""
    kinds = counted(view, options)
    counts = {kind: view.sums(kind, "selections") for kind, _ in kinds}
    seen = {kind: count.sum(axis=-1, keepdims=True) > 0 for kind, count in counts.items()}
    importance = sum(weight * share(counts[kind]) * seen[kind] for kind, weight in kinds)
    return importance[..., None] * noise(options.bits), _none_unsupported(view)


def sensitivity_only(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(δ_text + α·δ_key) / E; experts that were not measured get the estimated damage."""
    kinds = counted(view, options)
    cost = sum(weight * damage(view, kind, min_support=options.min_support) for kind, weight in kinds)
    unsupported = np.sum([view.sums(kind, "support") for kind, _ in kinds], axis=0) < options.min_support
    cost = np.where(unsupported[..., None], estimated(view, min_support=options.min_support), cost)
    return cost / view.stack.shape.experts, unsupported


def mc(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """φ·w^1.5·ε²: Mixture Compressor as its text says."""
    return rivals.mixture_compressor(view, rivals.PAPER), view.sums(ALL, "support") < options.min_support


def mc_released(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """φ·w^1.5·ε: Mixture Compressor as its released solver computes."""
    return rivals.mixture_compressor(view, rivals.RELEASED), view.sums(ALL, "support") < options.min_support


def reap(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(S_text + α·S_key)·4^−b, S the mean of ‖w·E(x)‖ over the tokens an expert gets, so that 0 bits cost S itself."""
    kinds = [(kind, weight) for kind, weight in counted(view, options) if weight != 0]
    saliency = np.sum([weight * rivals.mean_saliency(view, kind) for kind, weight in kinds], axis=0)
    unsupported = np.sum([view.sums(kind, "support") for kind, _ in kinds], axis=0) < options.min_support
    return saliency[..., None] * noise(options.bits), unsupported


def mopeq(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(n − 1)/(n·‖W‖_F)·4^−b: MoPEQ's trace as a weight on rounding noise, so that it can meet any budget."""
    trace = rivals.mopeq_trace(view.stack)
    return trace[..., None] * noise(options.bits), _none_unsupported(view)


def fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Σ_d g_d²·Δz_d² at the bank's output, mean over all tokens alike: vision tokens outvote text."""
    return weighed.fisher_cost(view, ((ALL, 1.0),), options.min_support)


def mode_fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Σ_d g_d²·Δz_d², mean over text tokens plus α times the mean over key tokens."""
    return weighed.fisher_cost(view, counted(view, options), options.min_support)


def soft_fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """As fisher, with the gradients of softened answers."""
    return weighed.fisher_cost(view, ((ALL, 1.0),), options.min_support, "soft_fisher")


def mode_soft_fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """As mode_fisher, with the gradients of softened answers."""
    return weighed.fisher_cost(view, counted(view, options), options.min_support, "soft_fisher")


def veq(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(γ·N_text + β·N_vision)·δ_all, γ measured from gradients."""
    significance = weighed.veq_significance(view, weighed.gradient_ratio(options.views or (view,)))
    return _significant(view, significance, options)


def hessian_trace(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Σ over gate, up, down of tr(H)/n·‖W − W_b‖², H of the calibration loss."""
    return weighed.hessian_cost(view, options.min_support)


def mode_logit_kl(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·KL_text + α·f_key·KL_key, the paper's cost with its metric in terms of the answer."""
    return kl_cost(view, counted(view, options), options.min_support, by_frequency=True)


def logit_kl(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """KL_text + α·KL_key."""
    return kl_cost(view, counted(view, options), options.min_support, by_frequency=False)


def _significant(view: View, significance: np.ndarray, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """significance · δ_all, and the estimated damage at the share of one token for experts that none reached."""
    unsupported = view.sums(ALL, "support") < options.min_support
    cost = significance[..., None] * damage(view, ALL, min_support=options.min_support)
    if unsupported.any():
        free = one_token_share(view, ALL)[..., None] * estimated(view, min_support=options.min_support)
        cost = np.where(unsupported[..., None], free, cost)
    return cost, unsupported


def uniform(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """4^−b for every expert."""
    ones = np.ones([len(view.stack.banks), view.stack.shape.experts, 1])
    return ones * noise(options.bits), _none_unsupported(view)


def random(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """u·4^−b with u drawn evenly from (0, 1) by seed and bank name, so that other banks do not change it."""
    stack = view.stack

    def make() -> np.ndarray:
        draws = [np.random.default_rng([options.seed, *name.encode()]) for name in stack.names]
        return np.stack([draw.uniform(size=stack.shape.experts) for draw in draws])

    importance = stack.keep(("random", options.seed), make)
    return importance[..., None] * noise(options.bits), _none_unsupported(view)


def _none_unsupported(view: View) -> np.ndarray:
    return np.zeros([len(view.stack.banks), view.stack.shape.experts], dtype=bool)
