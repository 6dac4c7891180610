"""What the original model thinks of the answers: the yardstick for KL and agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mode_core.errors import ReferenceMissing
from mode_core.evaluation.answers import BATCH, answer_logits
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.models.answering import FREE_TOKENS, batches, greedy_texts
from mode_core.quantization.model_lock import original
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

WHOLE_VOCABULARY = 4096  # vocabularies up to this size are kept whole
KEPT_TOKENS = 512  # of larger ones: the original's most likely tokens, and the rest as one event


@dataclass(frozen=True)
class ReferenceAnswer:
    """One sample's answer under the original model, n answer positions (the answer's tokens and its end).

    `log_probabilities` float32 `[n, K]` of the tokens `tokens` int32 `[n, K]` (None: the whole vocabulary in
    order); `top` int64 `[n]` the most likely token; `answer` the text that was forced.
    """

    log_probabilities: Tensor
    tokens: Tensor | None
    top: Tensor
    answer: str


@dataclass(frozen=True)
class Reference:
    """The original's distributions at the answer positions, by sample id.

    Memory: samples × answer positions × (vocabulary × 4 bytes up to `WHOLE_VOCABULARY` tokens, else
    `KEPT_TOKENS` × 8 bytes): at most about 4 KB a position for large vocabularies.
    """

    answers: dict[str, ReferenceAnswer]
    revision: str = ""

    @property
    def exact(self) -> bool:
        """True where whole distributions are kept; otherwise the KL from it is a lower bound (tokens outside the
        original's most likely ones are compared as one event)."""
        return all(answer.tokens is None for answer in self.answers.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all kept distributions."""
        parts = (t for a in self.answers.values() for t in (a.log_probabilities, a.tokens, a.top) if t is not None)
        return sum(part.nbytes for part in parts)

    def of(self, samples: Sequence[Sample]) -> list[ReferenceAnswer]:
        """The answers of these samples, in their order.

        Raises:
            ReferenceMissing: a sample that was not recorded.
        """
        if missing := [sample.id for sample in samples if sample.id not in self.answers]:
            raise ReferenceMissing(
                f"The reference lacks {len(missing)} of the samples ({', '.join(missing[:3])}); record it again with "
                "the samples that are evaluated."
            )
        kept = [self.answers[sample.id] for sample in samples]
        for sample, recorded in zip(samples, kept, strict=True):
            if sample.answer is not None and sample.answer != recorded.answer:
                raise ReferenceMissing(
                    f"Sample {sample.id} was recorded with the answer {recorded.answer!r} and now has "
                    f"{sample.answer!r}; record the reference again."
                )
        return kept


def record_reference(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    batch_size: int = BATCH,
    max_new_tokens: int = FREE_TOKENS,
) -> Reference:
    """Record the original model's distributions at the answer positions of `samples`.

    Samples without an answer are recorded at the original's own greedy answer of at most `max_new_tokens`.

    Raises:
        QuantizationError: the model is quantized now, so that this is not the original.
        Cancelled: a stop was asked for.
    """
    reporter, found = Reporter(progress, len(samples), cancel), {}
    with original(loaded):
        for places in batches(samples, batch_size):
            batch = answered([samples[place] for place in places], loaded, max_new_tokens)
            found |= _record(loaded, batch)
            reporter.step("the original's answers", len(places))
    return Reference(found, loaded.revision)


def answered(samples: Sequence[Sample], loaded: LoadedModel, max_new_tokens: int) -> list[Sample]:
    """The samples, those without an answer with the model's own greedy one."""
    silent = [sample for sample in samples if sample.answer is None]
    if not silent:
        return list(samples)
    said = iter(greedy_texts(loaded, silent, max_new_tokens))
    return [with_answer(sample, next(said)) if sample.answer is None else sample for sample in samples]


def with_answer(sample: Sample, answer: str) -> Sample:
    """The same sample (and id) with another answer."""
    return replace(sample, answer=answer)


def _record(loaded: LoadedModel, samples: Sequence[Sample]) -> dict[str, ReferenceAnswer]:
    found = answer_logits(loaded, samples)
    log_probabilities, tokens = found.logits.log_softmax(dim=-1), None
    top = found.logits.argmax(dim=-1).cpu()
    if log_probabilities.shape[1] > WHOLE_VOCABULARY:
        log_probabilities, tokens = log_probabilities.topk(KEPT_TOKENS, dim=-1)
        tokens = tokens.to(torch.int32).cpu()
    pieces = zip(
        samples,
        log_probabilities.cpu().split(found.counts),
        (None,) * len(samples) if tokens is None else tokens.split(found.counts),
        top.split(found.counts),
        strict=True,
    )
    return {
        s.id: ReferenceAnswer(p.clone(), t if t is None else t.clone(), o.clone(), s.answer) for s, p, t, o in pieces
    }


def kl_divergence(reference: ReferenceAnswer, log_probabilities: Tensor) -> Tensor:
    """KL(original ‖ this) in nats at each answer position: log-probabilities `[n, V]` → `[n]`, never below 0.

    Where the reference kept only the most likely tokens, all others count as one event: a lower bound.
    """
    original = reference.log_probabilities.to(log_probabilities.device)
    if reference.tokens is None:
        return (original.exp() * (original - log_probabilities)).sum(dim=-1).clamp_min(0)
    these = log_probabilities.gather(1, reference.tokens.to(log_probabilities.device).long())
    kept = (original.exp() * (original - these)).sum(dim=-1)
    rest, other = (torch.log((1 - p.exp().sum(dim=-1)).clamp_min(1e-9)) for p in (original, these))
    return (kept + rest.exp() * (rest - other)).clamp_min(0)
