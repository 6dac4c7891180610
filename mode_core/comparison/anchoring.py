"""An anchor measured: the model with every expert at one width, on a few samples with the model's own answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mode_core.comparison.items import PreparedItems
from mode_core.comparison.rounded_forward import RoundedInPassing
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.models.answering import own_answers
from mode_core.models.offloading import is_offloaded
from mode_core.prediction import Anchor
from mode_core.quantization.model_lock import exclusive
from mode_core.quantization.widths import DROPPED
from mode_core.request import Quantizer
from mode_core.samples import Sample
from mode_core.statistics import ExpertStatistics

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

SAMPLES = 64
SMALL = 1 << 30  # bytes of experts up to which an anchor is measured unasked
HIGHEST = 4  # widths above hardly hurt, and say little about those below


def anchored_unasked(loaded: LoadedModel) -> bool:
    """Is an anchor cheap enough to be measured wherever a run is made? Small, in memory, and able to answer."""
    matrices = sum(
        bank.experts * bank.hidden * bank.intermediate * len(bank.projections) for bank in loaded.banks.values()
    )
    small = matrices * loaded.dtype.itemsize <= SMALL
    return small and not is_offloaded(loaded.model) and loaded.model.can_generate()


def measure_anchor(
    loaded: LoadedModel,
    statistics: ExpertStatistics,
    samples: Sequence[Sample],
    limit: int = SAMPLES,
    answer_tokens: int = 16,
    batch_size: int = 16,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> Anchor:
    """KL of the measured widths of 1 to 4 bits on at most `limit` samples, spread over those given.

    Cost: the samples' answers, and one pass for the original and for each width. Memory: `RoundedInPassing` and
    `PreparedItems`; nothing of the model is copied, and its weights may lie on disk.

    Raises:
        SettingsError: no samples. Cancelled: a stop was asked for.
    """
    began, count = time.monotonic(), min(limit, len(samples))
    spread = [samples[place * len(samples) // count] for place in range(count)]
    quantizer = Quantizer().fitted(statistics)
    widths = [width for width in statistics.bits if DROPPED < width <= HIGHEST] or list(statistics.bits)
    with exclusive(loaded):
        asked = own_answers(loaded, spread, answer_tokens, batch_size, cancel)
    items = PreparedItems(loaded, asked, batch_size, progress, cancel)
    rounded = RoundedInPassing(loaded, widths, quantizer.group_size, quantizer.symmetric, None, progress, cancel)
    reporter, kl = Reporter(progress, len(widths), cancel), {}
    for width in widths:
        with rounded.applied({name: np.full(bank.experts, width) for name, bank in loaded.banks.items()}):
            kl[width] = items.measure().kl
        reporter.step("uniform widths")
    told = {"from": "calibration", "quantizer": quantizer.to_dict(), "items": items.digest()}
    return Anchor.of(kl, items.modalities, told | {"seconds": round(time.monotonic() - began, 1)})
