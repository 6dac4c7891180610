"""Every way to say how much an expert matters: each method's facts in one row, its formula as one small function.

A new one is a function in a file of this package and a row here; tests demand the rest. What the functions take and
return stands in `mode_core.importance.estimates`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mode_core.importance import estimates
from mode_core.importance.estimates import Options
from mode_core.importance.stacks import ImportanceError, View
from mode_core.statistics import ExpertStatistics

__all__ = ["GROUPS", "METHODS", "NEEDS", "Method", "Options"]

GROUPS = {  # in this order wherever methods are listed
    "paper": "the paper's",
    "ours": "ours",
    "rival": "published rivals",
    "ablation": "ablations of the paper",
    "floor": "what any method should beat",
}
FOLLOWED = ("key_ratio", "signal", "vision_weight", "audio_weight")


@dataclass(frozen=True)
class Need:
    """What calibration has to add for a method: in words, the option of `calibrate`, and the setting in Python."""

    words: str
    flag: str
    setting: str


NEEDS = {  # one of `mode_core.statistics.EXTRAS`
    "gradients": Need("gradients", "--gradients", "CalibrationSettings(gradients=True)"),
    "saliency": Need("the norms of the experts' outputs", "--saliency", "CalibrationSettings(saliency=True)"),
    "hessian": Need("the Hessian's trace", "--hessian-probes 1", "CalibrationSettings(hessian_probes=1)"),
    "logit_kl": Need(
        "the KL of the answer for every rounded expert", "--logit-kl", "mode_core.calibration.measure_logit_kl"
    ),
}


@dataclass(frozen=True)
class Method:
    """One importance estimate: its function, and everything that is said about it anywhere.

    `title` is its one name on the screen, `formula` the cost of expert e at b bits in the documentation's notation.
    `group` is a name of `GROUPS`, `needs` one of `NEEDS` or empty. `scopes` are those it is measured in, its natural
    one first; `comparable` says whether one budget for all banks makes sense. `follows`: which of `FOLLOWED`
    change its costs. `counts`: width → fewest experts per bank that its authors ask for. `rival`: its allocation stands
    beside the chosen one on the screen.
    """

    function: Callable[[View, Options], tuple[np.ndarray, np.ndarray]]
    title: str
    group: str
    formula: str
    description: str
    source: str
    needs: str = ""
    comparable: bool = False
    scopes: tuple[str, ...] = ("bank",)
    follows: tuple[str, ...] = FOLLOWED
    counts: Mapping[int, int] = field(default_factory=dict)
    rival: bool = False

    @property
    def name(self) -> str:
        """Its key in `METHODS`, in files and at the command line."""
        return self.function.__name__

    def available(self, statistics: ExpertStatistics) -> bool:
        """Do these statistics hold all that the method needs?"""
        return not self.needs or self.needs in statistics.extras

    def check(self, statistics: ExpertStatistics) -> None:
        """
        Raises:
            ImportanceError: the statistics lack what the method needs; the text says how to get it.
        """
        if not self.available(statistics):
            need = NEEDS[self.needs]
            raise ImportanceError(
                f"The method {self.name!r} needs {need.words}, which these statistics were measured without. Calibrate "
                f"again with {need.flag} (Python: {need.setting}), or choose another method."
            )


_MODE = "MODE, arXiv 2606.17118"
_RATIO_FREE: tuple[str, ...] = ()
_MODEL, _BOTH = ("model",), ("model", "bank")
# fmt: off
_ROWS = (
    Method(estimates.mode, "MODE", "paper",
           "f_text·δ_text + α·f_key·δ_key",
           "How often text and key vision tokens choose an expert, each times the damage they would take.",
           f"{_MODE} §5", rival=True),
    Method(estimates.mode_logit_kl, "MODE with KL of answer",
           "paper", "the same with δ = mean KL of the answer when e alone is rounded for those tokens",
           "As MODE, but the damage is how far the model's answer moves when the expert is rounded for those tokens.",
           f"{_MODE} §5, its costly metric", "logit_kl", comparable=True),
    Method(estimates.mode_soft_fisher, "MODE with soft Fisher", "ours",
           "as `mode_fisher`, g of the answers' distribution at temperature 2",
           "As MODE with Fisher damage, but for softened answers, which still tell what moves where the model is sure.",
           "ours: modalities apart as in mode, damage as in soft_fisher", "gradients", comparable=True, scopes=_BOTH),
    Method(estimates.mode_fisher, "MODE with Fisher", "ours",
           "(Σ over text of Σ_d g_d²·(w·ΔE)_d²)/T_text + α·(the same over key tokens)/T_key",
           "How much rounding an expert changes the model's own answers, through text and through key tokens apart.",
           "ours: modalities apart as in mode, damage as in fisher", "gradients", comparable=True, scopes=_BOTH),
    Method(estimates.mode_output, "MODE with layer output", "ours",
           "f_text·δ'_text + α·f_key·δ'_key, δ' = mean ‖w·ΔE‖² over the mean energy of the bank's output",
           "As MODE, but the damage is that of the whole layer's output, so layers can be compared.",
           "our variant of mode", comparable=True, scopes=_BOTH),
    Method(estimates.soft_fisher, "soft Fisher", "ours",
           "as `fisher`, g of the answers' distribution at temperature 2",
           "As Fisher damage, but for softened answers, which still tell what moves where the model is sure.",
           "ours: Fisher information of the answers at a higher temperature", "gradients",
           comparable=True, scopes=_MODEL, follows=_RATIO_FREE),
    Method(estimates.logit_kl, "KL of answer", "ours",
           "δ_text + α·δ_key of `mode_logit_kl`, without the frequency, which KL holds already",
           "How far the model's answer moves when the expert is rounded for text, plus the same for key tokens.",
           "ours: the metric of mode_logit_kl without the frequency", "logit_kl", comparable=True),
    Method(estimates.frequency, "frequency of all tokens", "rival", "f_all·δ_all",
           "How often any token chooses an expert times the damage; vision tokens outvote text.",
           f"aggregate frequency, the practice that {_MODE} argues against", follows=_RATIO_FREE, rival=True),
    Method(estimates.mc, "MC (Mixture Compressor)", "rival",
           "φ·w^1.5·ε²: φ share of selections, w share of routing weight, ε = ‖error of the bank's output‖",
           "Selections, routing weight and output error multiplied, over all tokens alike.",
           "Mixture Compressor, arXiv 2410.06270, exponents (1, 1.5, 2) of its text",
           follows=_RATIO_FREE, counts={2: 1, 3: 1}, rival=True),
    Method(estimates.mc_released, "MC as released", "rival", "φ·w^1.5·ε",
           "The same with the exponents that its released solver uses.",
           "Mixture Compressor, released code, exponents (1, 1.5, 1)", follows=_RATIO_FREE, counts={2: 1, 3: 1}),
    Method(estimates.reap, "REAP, adapted", "rival",
           "(S_text + α·S_key)·4^−b, S_M = mean of ‖w·E(x)‖ over the tokens of M that chose e",
           "How much an expert adds to the output when it is chosen, for text plus for key tokens; meant for 0 bits.",
           "our adaptation of REAP, arXiv 2510.13999, to modalities and to widths other than 0", "saliency"),
    Method(estimates.mopeq, "MoPEQ", "rival",
           "Σ over gate, up, down of (n − 1)/(n·‖W‖_F), times 4^−b",
           "Experts with small weights count more; no calibration data is used.",
           "MoPEQ, arXiv 2509.02512: its trace in closed form, our cost for a given budget",
           comparable=True, follows=_RATIO_FREE, rival=True),
    Method(estimates.veq, "VEQ-ME, adapted", "rival",
           "(γ·N_text + β·N_vision)/Σ · δ_all; γ = ‖g_text‖/‖g_vision‖ per token over the model, β = T_text/T_vision",
           "How often text and vision choose an expert, text weighed up by its larger gradients, times the damage.",
           "our adaptation of VEQ-ME, arXiv 2602.01037", "gradients", follows=_RATIO_FREE),
    Method(estimates.fisher, "Fisher", "rival",
           "Σ over all tokens of Σ_d g_d²·(w·ΔE)_d², over T_all",
           "How much rounding an expert changes the model's own answers, over all tokens alike.",
           "diagonal Fisher information at the expert output, as GEMQ-like allocators use it", "gradients",
           comparable=True, scopes=_BOTH, follows=_RATIO_FREE),
    Method(estimates.hessian_trace, "Hessian trace", "rival",
           "Σ over gate, up, down of max(tr H, 0)/n·‖W − W_b‖²",
           "How curved the loss is in an expert's weights, times the rounding error of the weights.",
           "the true Hessian in the place of MoPEQ's; cost as in HAWQ-V2, arXiv 1911.03852", "hessian",
           comparable=True, scopes=_MODEL, follows=_RATIO_FREE),
    Method(estimates.text_and_vision, "MODE, all vision tokens", "ablation",
           "f_text·δ_text + α·f_vision·δ_vision",
           "As MODE, but with all vision tokens, redundant ones included.",
           f"ablation in {_MODE}", follows=("vision_weight", "audio_weight")),
    Method(estimates.text_and_redundant, "MODE, redundant tokens", "ablation",
           "f_text·δ_text + α·f_redundant·δ_redundant",
           "As MODE, but with the redundant vision tokens in place of the key ones.", f"ablation in {_MODE}"),
    Method(estimates.frequency_only, "frequency only", "ablation",
           "(f_text + α·f_key)·4^−b",
           "How often text and key tokens choose an expert; every expert takes the same damage.",
           f"ablation in {_MODE}", comparable=True),
    Method(estimates.sensitivity_only, "sensitivity only", "ablation",
           "(δ_text + α·δ_key)/E",
           "The damage to text and key tokens; every expert is chosen equally often.", f"ablation in {_MODE}"),
    Method(estimates.uniform, "uniform bits", "floor", "4^−b",
           "Every expert counts the same.", "floor of every comparison", comparable=True, follows=_RATIO_FREE),
    Method(estimates.random, "random order", "floor", "u·4^−b, u by seed",
           "Experts in random order, by seed.", "floor of every comparison",
           comparable=True, follows=_RATIO_FREE, rival=True),
)
# fmt: on
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
