"""How good a model still is: exact answers, and how far its distributions moved from the original's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mode_core.errors import SettingsError
from mode_core.evaluation.answers import BATCH, answer_logits
from mode_core.evaluation.records import ScoredAnswer, Scores, normalised
from mode_core.evaluation.reference import Reference, kl_divergence, with_answer
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.models.answering import batches, greedy_texts
from mode_core.quantization.model_lock import exclusive
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

Measured = dict[str, float | int | None]


def evaluate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    reference: Reference | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    batch_size: int = BATCH,
    max_new_tokens: int | None = None,
) -> Scores:
    """Score the model as it is now (quantized or not) on `samples`.

    Every sample is answered greedily through the chat template; samples with an answer count as correct where what was
    said is one of the right answers after `normalised`. With a `reference` (the original's distributions) KL and top-1
    agreement are measured at the answer positions; samples without an answer are measured at the original's own.
    Answers are cut at `max_new_tokens`; by default two tokens after the longest expected one of the batch, 64 where one
    has none.

    Memory: a batch of inputs and batch × longest answer × vocabulary logits; of each sample a `ScoredAnswer` stays.

    Raises:
        SettingsError: no samples. ReferenceMissing: a sample that the reference lacks. Cancelled: a stop was asked for.
    """
    if not samples:
        raise SettingsError("There are no samples to evaluate on; give at least one.")
    if reference is not None:
        reference.of(samples)
    reporter, started = Reporter(progress, len(samples), cancel), time.monotonic()
    scored: list[ScoredAnswer | None] = [None] * len(samples)
    with exclusive(loaded):
        for places in batches(samples, batch_size):
            found = _score_batch(loaded, [samples[place] for place in places], reference, max_new_tokens)
            for place, answer in zip(places, found, strict=True):
                scored[place] = answer
            reporter.step("answers", len(places))
    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "revision": loaded.revision}
    exact = reference is None or reference.exact
    return Scores(tuple(scored), time.monotonic() - started, exact, settings)


def _score_batch(
    loaded: LoadedModel, samples: Sequence[Sample], reference: Reference | None, max_new_tokens: int | None
) -> list[ScoredAnswer]:
    given = greedy_texts(loaded, samples, max_new_tokens)
    measured = _measure(loaded, samples, reference)
    return [
        ScoredAnswer(
            sample.id,
            sample.modality,
            sample.task,
            sample.text,
            sample.answer,
            said,
            None if sample.answer is None else normalised(said) in map(normalised, sample.answers),
            **measured.get(sample.id, {}),
        )
        for sample, said in zip(samples, given, strict=True)
    ]


def _measure(loaded: LoadedModel, samples: Sequence[Sample], reference: Reference | None) -> dict[str, Measured]:
    """Teacher-forced measures by sample id; nothing for samples with neither an answer nor a reference."""
    recorded = {} if reference is None else {s.id: r for s, r in zip(samples, reference.of(samples), strict=True)}
    forced = [
        with_answer(sample, recorded[sample.id].answer) if sample.answer is None else sample
        for sample in samples
        if sample.answer is not None or sample.id in recorded
    ]
    if not forced:
        return {}
    found = answer_logits(loaded, forced)
    log_probabilities = found.logits.log_softmax(dim=-1)
    losses = -log_probabilities.gather(1, found.targets[:, None])[:, 0]
    expected = {sample.id for sample in samples if sample.answer is not None}
    measures: dict[str, Measured] = {}
    pieces = (log_probabilities.split(found.counts), losses.split(found.counts))
    for sample, these, loss in zip(forced, *pieces, strict=True):
        values: Measured = {}
        if sample.id in expected:
            values |= {"answer_loss": float(loss.sum()), "answer_tokens": len(loss)}
        if (original := recorded.get(sample.id)) is not None:
            top = original.top.to(these.device)
            values["kl"] = float(kl_divergence(original, these).mean())
            values["agreement"] = float((these.argmax(dim=-1) == top).float().mean())
        measures[sample.id] = values
    return measures
