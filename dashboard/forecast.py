"""What a calibration will take, told before it starts: memory from shapes, time from earlier runs. No Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mode_core.calibration import CalibrationSettings
from mode_core.run import Run
from mode_core.statistics import BINS, FOLDS

SUMS_COPIES = 4  # the sums of all banks are held so often at the most (stated by `calibrate`)
PROCESS = 450_000_000  # bytes of Python, torch and transformers before any model; measured on Linux, CPU build
ALIKE = ("bits", "signals", "sensitivity", "gradients", "hessian_probes", "batch_size")  # settings that decide the pace


def estimate_memory(source: str, settings: CalibrationSettings) -> int:
    """Bytes at most, an estimate: the software itself, the weight files, the sums of every bank, and rounded experts
    where they are kept.

    Only the configuration is read, and the files' sizes.

    Raises:
        ModelError, OSError, ValueError: no configuration, or a family without expert banks.
    """
    banks = _banks(source)
    weights = sum(path.stat().st_size for path in Path(source).glob("*.safetensors"))
    columns = 3 + (3 if settings.gradients else 2) * len(settings.bits)
    rows = FOLDS * (1 + BINS * len(settings.signals))
    sums = sum(bank.experts * rows * columns * 8 for bank in banks)
    experts = sum(b.experts * len(b.projections) * b.hidden * b.intermediate for b in banks) * 4
    stacked = experts * (1 + len(settings.bits)) if settings.sensitivity else 0
    return PROCESS + weights + SUMS_COPIES * sums + (stacked if stacked <= settings.stack_bytes else 0)


def _banks(source: str) -> list[Any]:
    """The expert banks of a configuration, built without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from mode_core.models import ensure_torchvision, find_banks

    ensure_torchvision()
    config = AutoConfig.from_pretrained(source, local_files_only=True)
    with torch.device("meta"):
        return list(find_banks(AutoModelForImageTextToText.from_config(config)).values())


def tokens_per_second(source: str, settings: CalibrationSettings, runs: Sequence[Run]) -> float | None:
    """Pace of the newest run of the same model with like settings that was measured; None where there is none."""
    wanted = {key: value for key, value in settings.to_dict().items() if key in ALIKE}
    for run in sorted(runs, key=lambda each: each.info.get("created", 0), reverse=True):
        info = run.info
        held = {key: value for key, value in info.get("settings", {}).items() if key in ALIKE}
        tokens = sum(int(count) for count in info.get("tokens", {}).values())
        same = run.model_source is not None and Path(run.model_source).resolve() == Path(source).resolve()
        if same and tokens and info.get("seconds", 0) > 0 and all(wanted[key] == value for key, value in held.items()):
            return tokens / info["seconds"]
    return None
