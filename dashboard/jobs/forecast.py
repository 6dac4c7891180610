"""What a calibration will take, told before it starts: memory from shapes, time from earlier runs. No Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard.state import model_sources
from dashboard.state.own_code import named_switch
from mode_core.calibration import CalibrationSettings
from mode_core.run import Run
from mode_core.statistics import BINS, FOLDS

if TYPE_CHECKING:
    from torch.nn import Parameter

    from mode_core.models import ExpertBank

SUMS_COPIES = 4  # the sums of all banks are held so often at the most (stated by `calibrate`)
PROCESS = 450_000_000  # bytes of Python, torch and transformers before any model; measured on Linux, CPU build
# settings that decide the pace
ALIKE = ("bits", "signals", "sensitivity", "gradients", "hessian_probes", "own_answers", "batch_size")


def estimate_memory(
    source: str, settings: CalibrationSettings, trusted: bool = False, answer_kl: bool = False, heard: bool = False
) -> int:
    """Bytes at least, an estimate: the software itself, the weights, the sums of every bank, and rounded experts
    where they are kept, as they always are for the KL of the answer (`answer_kl`). For the Hessian's trace the model
    in float32, and twice the experts; not what passes keep of a batch on their way. `heard`: the samples have audio
    tokens, whose sums are as large as those of vision tokens.

    Only the configuration is read. `trusted`: the model may run its own code.

    Raises:
        ModelError, OSError, ValueError: no configuration, or a family without expert banks.
    """
    banks, parameters = outlined(source, trusted)
    weights = sum(parameter.nbytes for parameter in parameters)
    columns = 3 + settings.saliency + (3 if settings.gradients else 2) * len(settings.bits)
    rows = FOLDS * (1 + BINS * len(settings.signals) * (1 + heard))
    sums = sum(bank.experts * rows * columns * 8 for bank in banks)
    experts = sum(b.experts * len(b.projections) * b.hidden * b.intermediate for b in banks) * 4
    stacked = experts * (1 + len(settings.bits))
    kept = answer_kl or (settings.sensitivity and stacked <= settings.stack_bytes)
    if settings.hessian_probes:
        weights = max(weights, 4 * sum(parameter.numel() for parameter in parameters)) + 2 * experts
    return PROCESS + weights + SUMS_COPIES * sums + stacked * kept


def outlined(source: str, trusted: bool = False) -> tuple[list[ExpertBank], list[Parameter]]:
    """The expert banks of a configuration, and the model's parameters, tied ones once; built without memory.

    Raises:
        ModelError, OSError, ValueError: as `estimate_memory`.
    """
    from mode_core.models import find_banks
    from mode_core.models.outline import outline

    source = model_sources.allowed(source)
    with named_switch(source):
        model = outline(source, trusted)
    return list(find_banks(model).values()), list(model.parameters())


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
