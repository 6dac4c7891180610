"""How far the model's own answer moves when one expert alone is rounded for the tokens of one modality (paper §5).

    δ_M(e, b) = mean over samples of KL(p ‖ p with expert e at b bits for the tokens of modality M only)

M is text, or the key vision tokens at one key ratio and redundancy signal; tokens of the other modality go through the
expert as it was. p is the distribution of the next token at the last position of the prompt, or, with
`positions="answers"`, at every position of the reference answer (then the mean over these). The mean is over samples
that have tokens of M at all.

Only the bank's output can differ, and only in the rows of tokens that chose the expert, so one pass of the original
tells what every rounded expert would add there: Δ = w·(E_b(x) − E(x)). Each further pass adds one such Δ behind one
bank and reads the logits. Where no token of M chose the expert the answer cannot move, and no pass is made: exact, and
on real batches the larger part of the saving.

What lies before the bank's layer is the same in all its passes and is not computed again, where the family allows it
(see `replay`); this is checked for every layer.

Cost: at most batches × (2 + layers + 2·B·Σ over banks of E) forward passes, or their later parts; `logit_kl_cost` says
how many and how long before. Memory: (1 + B) times the experts' weights, and of one batch what entered every bank and
left every layer: layers × tokens × (3·hidden + 2k) and the vision tower's output; nothing grows with the samples.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np

from mode_core.calibration.logit_kl_batch import SAME, Batch, Rounded, encode, read_logits
from mode_core.calibration.logit_kl_sums import KINDS, POSITIONS, LogitKL, LogitKLCost, LogitKLSettings, without_kl
from mode_core.calibration.settings import CalibrationSettings
from mode_core.errors import CalibrationError
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.models import ExpertBank, LoadedModel
from mode_core.quantization.guard import exclusive, is_quantized
from mode_core.samples import Sample

__all__ = [
    "KINDS",
    "PASSES_PER_BATCH",
    "POSITIONS",
    "SAME",
    "LogitKL",
    "LogitKLCost",
    "LogitKLSettings",
    "logit_kl_cost",
    "logit_kl_passes",
    "measure_logit_kl",
    "without_kl",
]

PASSES_PER_BATCH = 2  # what enters the banks, and the original's distribution; beside one check per layer


def logit_kl_passes(banks: Collection[ExpertBank], samples: int, widths: int, batch_size: int = 8) -> int:
    """Forward passes that `measure_logit_kl` makes at most for so many samples and widths; nothing is run."""
    layers = len({bank.layer for bank in banks})
    variations = len(KINDS) * widths * sum(bank.experts for bank in banks)
    return -(-samples // batch_size) * (PASSES_PER_BATCH + 2 * layers + variations)


def logit_kl_cost(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    bits: Sequence[int] = (1, 2, 3, 4),
    settings: LogitKLSettings | None = None,
) -> LogitKLCost:
    """What `measure_logit_kl` would cost; runs the first batch twice, the second time by the clock."""
    settings = settings or LogitKLSettings()
    passes = logit_kl_passes(loaded.banks.values(), len(samples), len(bits), settings.batch_size)
    with exclusive(loaded):
        encoded = encode(loaded, samples[: settings.batch_size], settings)
        read_logits(loaded, encoded)
        began = time.perf_counter()
        read_logits(loaded, encoded)
        each = time.perf_counter() - began
    return LogitKLCost(passes, passes * each, each)


def measure_logit_kl(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings | None = None,
    settings: LogitKLSettings | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    kept: LogitKL | None = None,
) -> LogitKL:
    """Measure δ of every expert, width and modality; see the head of this file. Say the cost first (`logit_kl_cost`).

    `calibration` gives widths and grid. `kept` is added to batch by batch where given, so that a caller still has what
    was measured when the work is stopped; samples that it holds already are not measured again.

    Raises:
        CalibrationError: no samples, or a family whose bank's output cannot be changed on the way.
        SampleError: a sample that the processor refuses, or without an answer where `positions` asks for one.
        Cancelled: stopped on request, after the last whole batch.
    """
    calibration, settings = calibration or CalibrationSettings(), settings or LogitKLSettings()
    found = kept if kept is not None else LogitKL.empty(loaded, calibration.bits, settings)
    left = [sample for sample in samples if sample.id not in set(found.samples)]
    if not samples:
        raise CalibrationError("There are no samples to measure KL with; give at least one.")
    with exclusive(loaded):
        if is_quantized(loaded):
            raise CalibrationError("The model has quantized weights in it now; restore it before calibrating.")
        if any(bank.device.type == "meta" for bank in loaded.banks.values()):
            raise CalibrationError(
                f"Parts of {loaded.name} lie on disk, where the KL of every expert would take days; load it whole."
            )
        rounded = {bank.name: Rounded.of(bank, calibration) for bank in loaded.banks.values()}
        batches = [left[n : n + settings.batch_size] for n in range(0, len(left), settings.batch_size)]
        reporter = Reporter(progress, len(batches) * sum(bank.experts for bank in loaded.banks.values()), cancel)
        for number, batch in enumerate(batches, 1):
            _add(found, Batch(loaded, batch, settings, rounded), reporter, f"KL, batch {number} of {len(batches)}")
    return found


def _add(found: LogitKL, batch: Batch, reporter: Reporter, what: str) -> None:
    """Measure one batch whole, then add it."""
    fresh = {name: {key: np.zeros_like(array) for key, array in sums.items()} for name, sums in found.sums.items()}
    for seen in batch.seen.values():
        sums = fresh[seen.bank.name]
        for kind, mask in batch.masks(seen).items():
            has = mask.any(dim=1).cpu().numpy()
            np.add.at(sums[f"{kind}_logit_kl_samples"], batch.folds[has], 1.0)
        for expert in range(seen.bank.experts):
            for kind, kl, support in batch.variations(seen, expert):
                np.add.at(sums[f"{kind}_logit_kl_support"][:, expert], batch.folds, support)
                np.add.at(sums[f"{kind}_logit_kl"][:, expert], batch.folds, kl)
            reporter.step(what)
    for name, sums in fresh.items():
        for key, array in sums.items():
            found.sums[name][key] += array
    found.samples += [sample.id for sample in batch.samples]
    found.passes += batch.passes
