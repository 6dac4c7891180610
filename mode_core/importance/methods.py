"""Every way to say how much an expert matters, by name: one small function each, all with one signature.

A method takes a `View` (banks of one shape at one key ratio) and `Options`, and returns the predicted damage
`[N, E, B]` of every expert at every width, and `[N, E]`, true where too few tokens reached an expert to measure it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mode_core.importance import fisher as weighed
from mode_core.importance import rivals
from mode_core.importance.frequency import one_token_share, share
from mode_core.importance.logit_kl import kl_cost
from mode_core.importance.sensitivity import damage, estimated
from mode_core.importance.stacks import ImportanceError, View
from mode_core.statistics import ExpertStatistics

Parts = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Options:
    """What a method may use beside its view: α on vision, the widths measured, least tokens, a seed, and the views of
    all banks, for what is measured over the whole model."""

    vision_weight: float = 1.0
    bits: tuple[int, ...] = (2, 3, 4)
    min_support: int = 1
    seed: int = 0
    views: tuple[View, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Method:
    """One importance estimate, in words and as a function.

    `group` is "paper", "rival", "ablation", "ours" or "floor". `needs` names what calibration has to add for it (one of
    `mode_core.statistics.EXTRAS`), or is empty.
    """

    name: str
    function: Callable[[View, Options], tuple[np.ndarray, np.ndarray]]
    description: str
    source: str
    comparable_across_banks: bool
    group: str
    needs: str = ""

    @property
    def needs_gradients(self) -> bool:
        """True for methods that only a calibration with gradients can serve."""
        return self.needs == "gradients"

    def available(self, statistics: ExpertStatistics) -> bool:
        """Do these statistics hold all that the method needs?"""
        return not self.needs or self.needs in statistics.extras

    def check(self, statistics: ExpertStatistics) -> None:
        """
        Raises:
            ImportanceError: the statistics lack what the method needs; the text says how to get it.
        """
        if not self.available(statistics):
            what, flag = NEEDS[self.needs]
            raise ImportanceError(
                f"The method {self.name!r} needs {what}, which these statistics were measured without. Calibrate again "
                f"with {flag} (Python: {_SETTING[self.needs]}), or choose another method."
            )


NEEDS = {  # extra -> in words, and the option of `python -m mode_core calibrate`
    "gradients": ("gradients", "--gradients"),
    "hessian": ("the Hessian's trace", "--hessian-probes 1"),
    "logit_kl": ("the KL of the answer for every rounded expert", "--logit-kl"),
}
_SETTING = {
    "gradients": "CalibrationSettings(gradients=True)",
    "hessian": "CalibrationSettings(hessian_probes=1)",
    "logit_kl": "mode_core.calibration.measure_logit_kl",
}


def weighted(view: View, options: Options, parts: Parts, metric: str = "expert_mse") -> tuple[np.ndarray, np.ndarray]:
    """Σ over kinds of weight · frequency · damage, `[N, E, B]`, and who was not reached, `[N, E]`.

    An expert that fewer than `min_support` measured tokens of these kinds reached gets the estimated damage,
    with the frequency that a single token of each kind would have: never zero, and small where data are many.
    """
    kinds = [(kind, weight) for kind, weight in parts if weight != 0]
    cost = sum(
        weight * share(view.sums(kind, "selections"))[..., None] * damage(view, kind, metric, options.min_support)
        for kind, weight in kinds
    )
    unsupported = sum(view.sums(kind, "support") for kind, _ in kinds) < options.min_support
    if unsupported.any():
        least = sum(weight * one_token_share(view, kind) for kind, weight in kinds)
        least = np.where(least > 0, least, 1 / view.stack.shape.experts)
        free = least[..., None] * estimated(view, metric, options.min_support)
        cost = np.where(unsupported[..., None], free, cost)
    return cost, unsupported


def noise(bits: tuple[int, ...]) -> np.ndarray:
    """Rounding noise by width when nothing is known of an expert: 4^−b, a quarter for every bit more, `[B]`."""
    return 4.0 ** -np.asarray(bits, dtype=float)


def mode(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·δ_text + α·f_key·δ_key (paper §5)."""
    return weighted(view, options, (("text", 1.0), ("key", options.vision_weight)))


def mode_output(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """The same with the error in the bank's output, g²·‖E − E_b‖² relative to the output's mean energy."""
    return weighted(view, options, (("text", 1.0), ("key", options.vision_weight)), "output_mse")


def frequency(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_all·δ_all, all tokens alike."""
    return weighted(view, options, (("all", 1.0),))


def text_and_vision(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·δ_text + α·f_vision·δ_vision."""
    return weighted(view, options, (("text", 1.0), ("vision", options.vision_weight)))


def text_and_redundant(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·δ_text + α·f_redundant·δ_redundant."""
    return weighted(view, options, (("text", 1.0), ("redundant", options.vision_weight)))


def frequency_only(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(f_text + α·f_key)·4^−b; a kind of token that the bank never saw adds nothing."""
    kinds = (("text", 1.0), ("key", options.vision_weight))
    counts = {kind: view.sums(kind, "selections") for kind, _ in kinds}
    seen = {kind: count.sum(axis=-1, keepdims=True) > 0 for kind, count in counts.items()}
    importance = sum(weight * share(counts[kind]) * seen[kind] for kind, weight in kinds)
    return importance[..., None] * noise(options.bits), _none_unsupported(view)


def sensitivity_only(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(δ_text + α·δ_key) / E; experts that were not measured get the estimated damage."""
    kinds = (("text", 1.0), ("key", options.vision_weight))
    cost = sum(weight * damage(view, kind, min_support=options.min_support) for kind, weight in kinds)
    unsupported = sum(view.sums(kind, "support") for kind, _ in kinds) < options.min_support
    cost = np.where(unsupported[..., None], estimated(view, min_support=options.min_support), cost)
    return cost / view.stack.shape.experts, unsupported


def mc(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """φ·w^1.5·ε²: Mixture Compressor as its text says."""
    return rivals.mixture_compressor(view, rivals.PAPER), view.sums("all", "support") < options.min_support


def mc_released(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """φ·w^1.5·ε: Mixture Compressor as its released solver computes."""
    return rivals.mixture_compressor(view, rivals.RELEASED), view.sums("all", "support") < options.min_support


def mopeq(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(n − 1)/(n·‖W‖_F)·4^−b: MoPEQ's trace as a weight on rounding noise, so that it can meet any budget."""
    trace = rivals.mopeq_trace(view.stack)
    return trace[..., None] * noise(options.bits), _none_unsupported(view)


def fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Σ_d g_d²·Δz_d² at the bank's output, mean over all tokens alike: vision tokens outvote text."""
    return weighed.fisher_cost(view, (("all", 1.0),), options.min_support)


def mode_fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Σ_d g_d²·Δz_d², mean over text tokens plus α times the mean over key tokens."""
    return weighed.fisher_cost(view, (("text", 1.0), ("key", options.vision_weight)), options.min_support)


def soft_fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """As fisher, with the gradients of softened answers."""
    return weighed.fisher_cost(view, (("all", 1.0),), options.min_support, "soft_fisher")


def mode_soft_fisher(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """As mode_fisher, with the gradients of softened answers."""
    parts = (("text", 1.0), ("key", options.vision_weight))
    return weighed.fisher_cost(view, parts, options.min_support, "soft_fisher")


def veq(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(γ·N_text + β·N_vision)·δ_all, γ measured from gradients."""
    significance = weighed.veq_significance(view, weighed.gradient_ratio(options.views or (view,)))
    return _significant(view, significance, options)


def hessian_trace(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Σ over gate, up, down of tr(H)/n·‖W − W_b‖², H of the calibration loss."""
    return weighed.hessian_cost(view, options.min_support)


def mode_logit_kl(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """f_text·KL_text + α·f_key·KL_key, the paper's cost with its metric in terms of the answer."""
    return kl_cost(view, (("text", 1.0), ("key", options.vision_weight)), options.min_support, by_frequency=True)


def logit_kl(view: View, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """KL_text + α·KL_key."""
    return kl_cost(view, (("text", 1.0), ("key", options.vision_weight)), options.min_support, by_frequency=False)


def _significant(view: View, significance: np.ndarray, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """significance · δ_all, and the estimated damage at the share of one token for experts that none reached."""
    unsupported = view.sums("all", "support") < options.min_support
    cost = significance[..., None] * damage(view, "all", min_support=options.min_support)
    if unsupported.any():
        free = one_token_share(view, "all")[..., None] * estimated(view, min_support=options.min_support)
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


_MODE = "MODE, arXiv 2606.17118"
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "mode",
            mode,
            "How often text and key vision tokens choose an expert, each times the damage they would take.",
            f"{_MODE} §5",
            False,
            "paper",
        ),
        Method(
            "frequency",
            frequency,
            "How often any token chooses an expert times the damage; vision tokens outvote text.",
            f"aggregate frequency, the practice that {_MODE} argues against",
            False,
            "rival",
        ),
        Method(
            "mc",
            mc,
            "Selections, routing weight and output error multiplied, over all tokens alike.",
            "Mixture Compressor, arXiv 2410.06270, exponents (1, 1.5, 2) of its text",
            False,
            "rival",
        ),
        Method(
            "mc_released",
            mc_released,
            "The same with the exponents that its released solver uses.",
            "Mixture Compressor, released code, exponents (1, 1.5, 1)",
            False,
            "rival",
        ),
        Method(
            "mopeq",
            mopeq,
            "Experts with small weights count more; no calibration data is used.",
            "MoPEQ, arXiv 2509.02512: its trace in closed form, our cost for a given budget",
            True,
            "rival",
        ),
        Method(
            "veq",
            veq,
            "How often text and vision choose an expert, text weighed up by its larger gradients, times the damage.",
            "our adaptation of VEQ-ME, arXiv 2602.01037",
            False,
            "rival",
            "gradients",
        ),
        Method(
            "fisher",
            fisher,
            "How much rounding an expert changes the model's own answers, over all tokens alike.",
            "diagonal Fisher information at the expert output, as GEMQ-like allocators use it",
            True,
            "rival",
            "gradients",
        ),
        Method(
            "hessian_trace",
            hessian_trace,
            "How curved the loss is in an expert's weights, times the rounding error of the weights.",
            "the true Hessian in the place of MoPEQ's; cost as in HAWQ-V2, arXiv 1911.03852",
            True,
            "rival",
            "hessian",
        ),
        Method("uniform", uniform, "Every expert counts the same.", "floor of every comparison", True, "floor"),
        Method("random", random, "Experts in random order, by seed.", "floor of every comparison", True, "floor"),
        Method(
            "mode_output",
            mode_output,
            "As mode, but the damage is that of the whole layer's output, so layers can be compared.",
            "our variant of mode",
            True,
            "ours",
        ),
        Method(
            "mode_fisher",
            mode_fisher,
            "How much rounding an expert changes the model's own answers, through text and through key tokens apart.",
            "ours: modalities apart as in mode, damage as in fisher",
            True,
            "ours",
            "gradients",
        ),
        Method(
            "mode_logit_kl",
            mode_logit_kl,
            "As mode, but the damage is how far the model's answer moves when the expert is rounded for those tokens.",
            f"{_MODE} §5, its costly metric",
            True,
            "paper",
            "logit_kl",
        ),
        Method(
            "logit_kl",
            logit_kl,
            "How far the model's answer moves when the expert is rounded for text, plus the same for key tokens.",
            "ours: the metric of mode_logit_kl without the frequency, which it holds already",
            True,
            "ours",
            "logit_kl",
        ),
        Method(
            "soft_fisher",
            soft_fisher,
            "As fisher, but for softened answers, which still tell what moves where the model is sure.",
            "ours: Fisher information of the answers at a higher temperature",
            True,
            "ours",
            "gradients",
        ),
        Method(
            "mode_soft_fisher",
            mode_soft_fisher,
            "As mode_fisher, but for softened answers, which still tell what moves where the model is sure.",
            "ours: modalities apart as in mode, damage as in soft_fisher",
            True,
            "ours",
            "gradients",
        ),
        Method(
            "text_and_vision",
            text_and_vision,
            "As mode, but with all vision tokens, redundant ones included.",
            f"ablation in {_MODE}",
            False,
            "ablation",
        ),
        Method(
            "text_and_redundant",
            text_and_redundant,
            "As mode, but with the redundant vision tokens in place of the key ones.",
            f"ablation in {_MODE}",
            False,
            "ablation",
        ),
        Method(
            "frequency_only",
            frequency_only,
            "How often text and key tokens choose an expert; every expert takes the same damage.",
            f"ablation in {_MODE}",
            True,
            "ablation",
        ),
        Method(
            "sensitivity_only",
            sensitivity_only,
            "The damage to text and key tokens; every expert is chosen equally often.",
            f"ablation in {_MODE}",
            False,
            "ablation",
        ),
    )
}
