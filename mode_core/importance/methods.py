"""Every way to say how much an expert matters, by name: what it is in words, where it is from and what it needs.

The functions themselves, and what they take and return, stand in `mode_core.importance.estimates`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mode_core.importance import estimates
from mode_core.importance.estimates import Options
from mode_core.importance.stacks import ImportanceError, View
from mode_core.statistics import ExpertStatistics

__all__ = ["METHODS", "NEEDS", "Method", "Options"]


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
_MODE = "MODE, arXiv 2606.17118"
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "mode",
            estimates.mode,
            "How often text and key vision tokens choose an expert, each times the damage they would take.",
            f"{_MODE} §5",
            False,
            "paper",
        ),
        Method(
            "frequency",
            estimates.frequency,
            "How often any token chooses an expert times the damage; vision tokens outvote text.",
            f"aggregate frequency, the practice that {_MODE} argues against",
            False,
            "rival",
        ),
        Method(
            "mc",
            estimates.mc,
            "Selections, routing weight and output error multiplied, over all tokens alike.",
            "Mixture Compressor, arXiv 2410.06270, exponents (1, 1.5, 2) of its text",
            False,
            "rival",
        ),
        Method(
            "mc_released",
            estimates.mc_released,
            "The same with the exponents that its released solver uses.",
            "Mixture Compressor, released code, exponents (1, 1.5, 1)",
            False,
            "rival",
        ),
        Method(
            "mopeq",
            estimates.mopeq,
            "Experts with small weights count more; no calibration data is used.",
            "MoPEQ, arXiv 2509.02512: its trace in closed form, our cost for a given budget",
            True,
            "rival",
        ),
        Method(
            "veq",
            estimates.veq,
            "How often text and vision choose an expert, text weighed up by its larger gradients, times the damage.",
            "our adaptation of VEQ-ME, arXiv 2602.01037",
            False,
            "rival",
            "gradients",
        ),
        Method(
            "fisher",
            estimates.fisher,
            "How much rounding an expert changes the model's own answers, over all tokens alike.",
            "diagonal Fisher information at the expert output, as GEMQ-like allocators use it",
            True,
            "rival",
            "gradients",
        ),
        Method(
            "hessian_trace",
            estimates.hessian_trace,
            "How curved the loss is in an expert's weights, times the rounding error of the weights.",
            "the true Hessian in the place of MoPEQ's; cost as in HAWQ-V2, arXiv 1911.03852",
            True,
            "rival",
            "hessian",
        ),
        Method(
            "uniform", estimates.uniform, "Every expert counts the same.", "floor of every comparison", True, "floor"
        ),
        Method(
            "random", estimates.random, "Experts in random order, by seed.", "floor of every comparison", True, "floor"
        ),
        Method(
            "mode_output",
            estimates.mode_output,
            "As mode, but the damage is that of the whole layer's output, so layers can be compared.",
            "our variant of mode",
            True,
            "ours",
        ),
        Method(
            "mode_fisher",
            estimates.mode_fisher,
            "How much rounding an expert changes the model's own answers, through text and through key tokens apart.",
            "ours: modalities apart as in mode, damage as in fisher",
            True,
            "ours",
            "gradients",
        ),
        Method(
            "mode_logit_kl",
            estimates.mode_logit_kl,
            "As mode, but the damage is how far the model's answer moves when the expert is rounded for those tokens.",
            f"{_MODE} §5, its costly metric",
            True,
            "paper",
            "logit_kl",
        ),
        Method(
            "logit_kl",
            estimates.logit_kl,
            "How far the model's answer moves when the expert is rounded for text, plus the same for key tokens.",
            "ours: the metric of mode_logit_kl without the frequency, which it holds already",
            True,
            "ours",
            "logit_kl",
        ),
        Method(
            "soft_fisher",
            estimates.soft_fisher,
            "As fisher, but for softened answers, which still tell what moves where the model is sure.",
            "ours: Fisher information of the answers at a higher temperature",
            True,
            "ours",
            "gradients",
        ),
        Method(
            "mode_soft_fisher",
            estimates.mode_soft_fisher,
            "As mode_fisher, but for softened answers, which still tell what moves where the model is sure.",
            "ours: modalities apart as in mode, damage as in soft_fisher",
            True,
            "ours",
            "gradients",
        ),
        Method(
            "text_and_vision",
            estimates.text_and_vision,
            "As mode, but with all vision tokens, redundant ones included.",
            f"ablation in {_MODE}",
            False,
            "ablation",
        ),
        Method(
            "text_and_redundant",
            estimates.text_and_redundant,
            "As mode, but with the redundant vision tokens in place of the key ones.",
            f"ablation in {_MODE}",
            False,
            "ablation",
        ),
        Method(
            "frequency_only",
            estimates.frequency_only,
            "How often text and key tokens choose an expert; every expert takes the same damage.",
            f"ablation in {_MODE}",
            True,
            "ablation",
        ),
        Method(
            "sensitivity_only",
            estimates.sensitivity_only,
            "The damage to text and key tokens; every expert is chosen equally often.",
            f"ablation in {_MODE}",
            False,
            "ablation",
        ),
    )
}
