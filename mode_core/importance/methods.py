"""Every way to say how much an expert matters, by name: one small function each, all with one signature.

A method takes a `View` (banks of one shape at one key ratio) and `Options`, and returns the predicted damage
`[N, E, B]` of every expert at every width, and `[N, E]`, true where too few tokens reached an expert to measure it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mode_core.importance import rivals
from mode_core.importance.frequency import one_token_share, share
from mode_core.importance.sensitivity import damage, estimated
from mode_core.importance.stacks import View

Parts = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Options:
    """What a method may use beside the statistics: α on vision, the widths measured, least tokens, a seed."""

    vision_weight: float = 1.0
    bits: tuple[int, ...] = (2, 3, 4)
    min_support: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """One importance estimate, in words and as a function."""

    name: str
    function: Callable[[View, Options], tuple[np.ndarray, np.ndarray]]
    description: str
    source: str
    comparable_across_banks: bool
    group: str  # "paper", "rival", "ablation", "ours" or "floor"


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
    """(f_text + α·f_key)·4^−b."""
    kinds = (("text", 1.0), ("key", options.vision_weight))
    importance = sum(weight * share(view.sums(kind, "selections")) for kind, weight in kinds)
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
