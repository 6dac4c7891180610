"""What a calibration will take, told before it starts: memory from shapes, time from earlier runs. No Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard.state import model_sources
from dashboard.state.own_code import named_switch
from mode_core.calibration import CalibrationSettings
from mode_core.run import Run
from mode_core.statistics import BINS, FOLDS

if TYPE_CHECKING:
    from torch.nn import Module, Parameter

    from mode_core.models import ExpertBank

SOFTWARE = 450_000_000  # bytes of Python, torch and transformers before any model; measured on Linux, CPU build
IN_USE = 1_000_000_000  # more of them at the most in use (table in the README of calibration)
SUMS_COPIES = 4  # the sums of all banks are held so often at the most (stated by `calibrate`)
LONG = 512  # tokens of a sample where nobody counted them
# settings that decide the pace
ALIKE = ("bits", "signals", "sensitivity", "gradients", "hessian_probes", "own_answers", "batch_size")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what takes them: `parts` all at once and for sure, `beside` at the most, at different times."""

    parts: dict[str, int]
    beside: dict[str, int]

    @property
    def least(self) -> int:
        """What a calibration cannot do without."""
        return sum(self.parts.values())

    @property
    def most(self) -> int:
        """Where all that may come on top came at once."""
        return self.least + sum(self.beside.values())


def estimate_memory(
    source: str,
    settings: CalibrationSettings,
    trusted: bool = False,
    answer_kl: bool = False,
    tokens: int = LONG,
) -> MemoryEstimate:
    """What a calibration in memory takes, of samples of so many `tokens` each.

    For sure: the software itself, the weights, the sums of every bank, and rounded experts where they are kept, as they
    always are for the KL of the answer (`answer_kl`). For the Hessian's trace the model in float32, and twice the
    experts. Beside: what the software takes in use; sums of audio tokens where the model hears, and copies of sums
    while they are written; two copies of the largest bank in float32 while it is read and rounded; what a batch's
    passes hold, with gradients those of all layers at once.

    Only the configuration is read. `trusted`: the model may run its own code.

    Raises:
        ModelError, OSError, ValueError: no configuration, or a family without expert banks.
    """
    from mode_core.models import find_banks
    from mode_core.models.encoding import audio_token_ids

    model = _model(source, trusted)
    banks, parameters = list(find_banks(model).values()), list(model.parameters())
    weights, sizes = sum(parameter.nbytes for parameter in parameters), [_float32(bank) for bank in banks]
    if settings.hessian_probes:
        weights = max(weights, 4 * sum(parameter.numel() for parameter in parameters)) + 2 * sum(sizes)
    columns = 3 + settings.saliency + (3 if settings.gradients else 2) * len(settings.bits)
    row = 8 * FOLDS * columns * sum(bank.experts for bank in banks)
    ranked = row * BINS * len(settings.signals)  # of one modality that signals rank
    audio = ranked * bool(audio_token_ids(model.config))
    stacked = sum(sizes) * (1 + len(settings.bits))
    kept = answer_kl or (settings.sensitivity and stacked <= settings.stack_bytes)
    parts = {"software": SOFTWARE, "weights": weights, "sums": row + ranked, "rounded experts": stacked * kept}
    beside = {
        "software in use": IN_USE,
        "audio sums": audio,
        "copies of sums": (SUMS_COPIES - 1) * (row + ranked + audio),
        "rounding": 2 * max(sizes),
        "passes": _passes(banks, parameters, settings, 2 * settings.batch_size * tokens, kept),
    }
    return MemoryEstimate(parts, beside)


def _float32(bank: ExpertBank) -> int:
    return 4 * bank.experts * len(bank.projections) * bank.hidden * bank.intermediate


def _passes(
    banks: Sequence[ExpertBank],
    parameters: Sequence[Parameter],
    settings: CalibrationSettings,
    tokens: int,
    at_once: bool,
) -> int:
    """Bytes that passes of a batch of so many tokens, padding included, hold in float32: one layer's states, what is
    inside of its experts, and the same at every width, of all experts `at_once` or of one that all tokens were sent to;
    with gradients all layers' states, and logits four times."""
    layers = [12 * one.hidden + one.top_k * (3 * one.intermediate + 2 * one.hidden) for one in banks]
    widths = (1 + len(settings.bits)) * settings.sensitivity
    rounded = max((one.top_k if at_once else 1) * (2 * one.intermediate + one.hidden) for one in banks) * widths
    vocabulary = max(parameter.shape[0] for parameter in parameters if parameter.ndim == 2)
    held = sum(layers) + 4 * vocabulary if settings.gradients else max(layers) + vocabulary
    return 4 * tokens * (held + rounded)


def outlined(source: str, trusted: bool = False) -> tuple[list[ExpertBank], list[Parameter]]:
    """The expert banks of a configuration, and the model's parameters, tied ones once; built without memory.

    Raises:
        ModelError, OSError, ValueError: as `estimate_memory`.
    """
    from mode_core.models import find_banks

    model = _model(source, trusted)
    return list(find_banks(model).values()), list(model.parameters())


def _model(source: str, trusted: bool) -> Module:
    from mode_core.models.outline import outline

    source = model_sources.allowed(source)
    with named_switch(source):
        return outline(source, trusted)


def tokens_per_second(source: str, settings: CalibrationSettings, runs: Sequence[Run]) -> float | None:
    """Pace of the newest run of the same model with like settings that was measured; None where there is none."""
    wanted = {key: value for key, value in settings.to_dict().items() if key in ALIKE}
    for run in sorted(runs, key=lambda each: each.info.get("created", 0), reverse=True):
        info = run.info
        held = {key: value for key, value in ({"own_answers": 0} | info.get("settings", {})).items() if key in ALIKE}
        tokens = sum(int(count) for count in info.get("tokens", {}).values())
        same = run.model_source is not None and Path(run.model_source).resolve() == Path(source).resolve()
        if same and tokens and info.get("seconds", 0) > 0 and all(wanted[key] == value for key, value in held.items()):
            return tokens / info["seconds"]
    return None
