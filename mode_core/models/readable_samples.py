"""Which samples a model can read: those that its processor refuses are left out by name, and the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mode_core.jobs import Cancel, check
from mode_core.models.encoding import Encoded
from mode_core.samples import Sample, SampleError, SampleList

if TYPE_CHECKING:
    from mode_core.models.loading import LoadedModel

AT_ONCE = 8  # samples that are looked at together


def encode_checked(loaded: LoadedModel, batch: Sequence[Sample], answers: bool = False) -> Encoded:
    """`loaded.encode`, and no sample longer than the model reads.

    Raises:
        SampleError: what the processor refuses, or too many tokens; names the sample.
    """
    encoded = loaded.encode(batch, answers=answers)
    longest = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and max(encoded.lengths) > longest:
        raise SampleError(
            f"Sample {encoded.ids[encoded.lengths.index(max(encoded.lengths))]} has {max(encoded.lengths):,} tokens; "
            f"the model reads at most {longest:,}. Use a smaller picture or a shorter text."
        )
    return encoded


def usable(
    loaded: LoadedModel, samples: Sequence[Sample], strict: bool = False, cancel: Cancel | None = None
) -> SampleList:
    """Those of the samples that the model can read, with their answers where they have any, in the same order.
    `.errors` holds the reasons of the others behind those with which the samples came.

    Time: one pass of the processor over all samples. Memory: one small batch.

    Raises:
        SampleError: none can be read, or (with `strict`) one cannot. Cancelled: a stop was asked for.
    """
    refused: dict[str, str] = {}
    for first in range(0, len(samples), AT_ONCE):
        check(cancel)
        for answered in (True, False):
            _look(loaded, [s for s in samples[first : first + AT_ONCE] if (s.answer is not None) is answered], refused)
    if refused and (strict or len(refused) == len(samples)):
        name, reason = next(iter(refused.items()))
        which = "The sample" if strict else f"None of the {len(samples)} samples can be used. The first,"
        raise SampleError(f"{which} {name}: {reason}")
    left = SampleList([sample for sample in samples if sample.id not in refused])
    left.errors = [*getattr(samples, "errors", ()), *(f"{name}: {reason}" for name, reason in refused.items())]
    left.notes, left.drawn = getattr(samples, "notes", []), getattr(samples, "drawn", None)
    left.origin = getattr(samples, "origin", None)
    return left


def _look(loaded: LoadedModel, batch: list[Sample], refused: dict[str, str]) -> None:
    """Note which of a batch are refused, and why."""
    try:
        if batch:
            encode_checked(loaded, batch, answers=batch[0].answer is not None)
    except SampleError as reason:
        if len(batch) == 1:
            refused[batch[0].id] = str(reason)
            return
        for sample in batch:
            _look(loaded, [sample], refused)
