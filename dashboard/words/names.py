"""What methods, signals and banks are called on the screen, the same on every page."""

from __future__ import annotations

from dashboard.charts.grids import Axes

SIGNALS = {
    "text_attention": "Attention from text (the paper's)",
    "judge_layer_attention": "Attention at one early layer",
    "rater_attention": "Attention from rater text tokens",
    "duplication": "Unlike its neighbours",
    "diversity": "Greedy diversity",
    "none": "None: all vision tokens are key",
}
METHODS = {
    "mode": "MODE (the paper)",
    "mode_output": "MODE, layer-output damage (ours)",
    "mode_soft_fisher": "MODE with softened Fisher damage (ours, best measured below 3 bits)",
    "mode_fisher": "MODE with Fisher damage (ours)",
    "mode_logit_kl": "MODE with the KL of the answer (the paper's costly metric)",
    "logit_kl": "KL of the answer alone (ours)",
    "soft_fisher": "Softened Fisher damage, all tokens alike (ours)",
    "fisher": "Fisher damage, all tokens alike (rival)",
    "veq": "VEQ-ME, adapted (rival)",
    "hessian_trace": "Hessian trace (rival)",
    "frequency": "Frequency of all tokens (rival)",
    "mc": "Mixture Compressor (rival)",
    "mc_released": "Mixture Compressor, as released (rival)",
    "mopeq": "MoPEQ (rival)",
    "uniform": "All experts alike (floor)",
    "random": "Random order (floor)",
    "text_and_vision": "MODE with all vision tokens (ablation)",
    "text_and_redundant": "MODE with redundant tokens (ablation)",
    "frequency_only": "Frequency only (ablation)",
    "sensitivity_only": "Sensitivity only (ablation)",
}
_SHORT_SIGNALS = {
    "text_attention": "attention from text",
    "judge_layer_attention": "one early layer",
    "rater_attention": "rater tokens",
    "duplication": "unlike neighbours",
    "diversity": "greedy diversity",
}
_SHORT = {
    "mode_output": "MODE, layer output",
    "mode_soft_fisher": "MODE with soft Fisher",
    "soft_fisher": "soft Fisher",
    "mode_fisher": "MODE with Fisher",
    "mode_logit_kl": "MODE, KL of answer",
    "logit_kl": "KL of answer",
    "fisher": "Fisher",
    "veq": "VEQ-ME, adapted",
    "frequency": "frequency of all",
    "uniform": "uniform bits",
    "random": "random order",
    "text_and_vision": "all vision tokens",
    "text_and_redundant": "redundant tokens",
    "mc_released": "MC as released",
    "mc": "MC (Mixture Compressor)",
}


def signal(name: str) -> str:
    """A redundancy signal in words; one that is not known here by its own name."""
    return SIGNALS.get(name, name.replace("_", " "))


def short_signal(name: str) -> str:
    """The same in a word or two: for axes."""
    return _SHORT_SIGNALS.get(name, name.replace("_", " "))


def method(name: str) -> str:
    """An importance method in words; one that is not known here by its own name."""
    return METHODS.get(name, name.replace("_", " "))


def short_method(name: str) -> str:
    """The same in few words: for legends and axes."""
    return _SHORT.get(name) or method(name).partition(" (")[0]


def banks(axes: Axes) -> list[str]:
    """Short names of the banks: 'Layer 3', with a letter where a layer holds several."""
    return [f"Layer {tick}" for tick in axes.ticks]
