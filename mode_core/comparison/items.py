"""Evaluation items prepared once, so that measuring the model again costs one forward pass and nothing else.

What does not depend on the experts is kept: encoded inputs, the vision tower's outputs, and the original's
distributions at the answer positions. One pass with the answers forced then gives everything that is compared:

- `kl`, `agreement`: as `mode_core.evaluation.evaluate` measures them;
- `correct`: whether at every answer position, the end included, the most likely token is the expected one. Greedy
  generation says the expected tokens exactly where that holds, since up to its first other token it has seen the same
  text; so this is its exact match without generating (an answer that differs only in how the tokenizer cut it, in
  case or in white space would count as wrong here and as right there).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mode_core.errors import SettingsError
from mode_core.evaluation.answers import AnswerLogits, forced_logits
from mode_core.evaluation.reference import KEPT_TOKENS, WHOLE_VOCABULARY, ReferenceAnswer, kl_divergence
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.models.answering import batches
from mode_core.quantization.model_lock import original
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

PIXELS = "pixel_values"


@dataclass(frozen=True)
class ItemScores:
    """What one model did on every item, arrays float32 `[n]` in the order of the items: exact answer (0 or 1), mean
    KL(original ‖ this) in nats over the answer positions, share of these with the original's top token."""

    accuracy: np.ndarray
    kl: np.ndarray
    agreement: np.ndarray


@dataclass(frozen=True)
class _Batch:
    places: np.ndarray
    inputs: dict[str, Any]
    answered: Tensor


class PreparedItems:
    """Items with answers, ready to be measured again and again on the same loaded model.

    `tasks`, `modalities`: one string an item; `vision` where it has a picture. Of an item with several right answers
    each is forced in turn, and any of them makes it correct; KL and agreement are those at the first.

    Memory: inputs and vision features of all items, and of every answer position the original's distribution
    (vocabulary × 4 bytes up to 4,096 tokens, else 512 × 8 bytes); it grows with the items, not with the measurements.

    Raises:
        SettingsError: no items, or one without an answer. Cancelled: a stop was asked for.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        samples: Sequence[Sample],
        batch_size: int = 64,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        if not samples:
            raise SettingsError("There are no items to compare on; give samples with answers.")
        if silent := [sample.id for sample in samples if sample.answer is None]:
            raise SettingsError(f"{len(silent)} items have no answer ({', '.join(silent[:3])}); add 'answer' to them.")
        self.loaded, self.samples = loaded, tuple(samples)
        self.tasks = np.array([sample.task or "" for sample in samples])
        self.modalities = np.array([sample.modality for sample in samples])
        rows = [(place, replace(s, answer=a)) for place, s in enumerate(samples) for a in s.answers]
        self._rows, self._owners = [row for _, row in rows], np.array([place for place, _ in rows])
        reporter = Reporter(progress, len(rows), cancel)
        self._batches: list[_Batch] = []
        self._original: list[ReferenceAnswer] = []
        with original(loaded):
            for places in batches(self._rows, batch_size):
                self._prepare(places)
                reporter.step("the original's answers", len(places))

    def __len__(self) -> int:
        return len(self.samples)

    def digest(self) -> str:
        """Hash of the items' ids, questions and answers, in order."""
        rows = [(s.id, s.text, s.answers if s.other_answers else s.answer, len(s.images)) for s in self.samples]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def measure(self) -> ItemScores:
        """Scores of the model as it is now: one forward pass a batch."""
        measured = {name: np.zeros(len(self._rows), dtype=np.float32) for name in ("accuracy", "kl", "agreement")}
        for batch, reference in zip(self._batches, self._original, strict=True):
            logits = forced_logits(self.loaded.model, batch.inputs, batch.answered)
            for name, values in _by_item(logits, reference).items():
                measured[name][batch.places] = values
        expected = np.searchsorted(self._owners, np.arange(len(self)))  # the first answer of every item
        right = np.maximum.reduceat(measured["accuracy"], expected)  # any of them
        return ItemScores(right, measured["kl"][expected], measured["agreement"][expected])

    def _prepare(self, places: Sequence[int]) -> None:
        encoded = self.loaded.encode([self._rows[place] for place in places], answers=True, padding_side="left")
        inputs = with_vision_outputs(self.loaded.model, dict(encoded.inputs))
        self._batches.append(_Batch(np.asarray(places), inputs, encoded.answer_mask))
        logits = forced_logits(self.loaded.model, inputs, encoded.answer_mask).logits
        log_probabilities, tokens = logits.log_softmax(dim=-1), None
        if log_probabilities.shape[1] > WHOLE_VOCABULARY:
            log_probabilities, tokens = log_probabilities.topk(KEPT_TOKENS, dim=-1)
            tokens = tokens.to(torch.int32)
        self._original.append(ReferenceAnswer(log_probabilities, tokens, logits.argmax(dim=-1), ""))


def with_vision_outputs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs with the vision tower's outputs in place of the pixels, where the model's class takes them.

    transformers' multimodal models take `mm_encoder_outputs`; for a class that does not, the inputs stay as they are
    and the tower runs again at every pass.
    """
    if PIXELS not in inputs or "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
        return inputs
    looking = model if hasattr(model, "get_image_features") else model.base_model
    wanted = inspect.signature(looking.get_image_features).parameters
    with torch.inference_mode():
        seen = looking.get_image_features(**{key: value for key, value in inputs.items() if key in wanted})
    rest = {key: value for key, value in inputs.items() if key != PIXELS}
    return rest | {"mm_encoder_outputs": {"image": seen}}


def _by_item(found: AnswerLogits, original: ReferenceAnswer) -> dict[str, np.ndarray]:
    """Mean over each item's answer positions; `accuracy` is 1 only where all positions are right."""
    best = found.logits.argmax(dim=-1)
    counts = torch.tensor(found.counts, device=best.device)
    item = torch.repeat_interleave(torch.arange(len(counts), device=best.device), counts)

    def total(values: Tensor) -> Tensor:
        return torch.zeros(len(counts), device=best.device).index_add_(0, item, values.float())

    measured = {
        "accuracy": (total(best != found.targets) == 0).float(),
        "kl": total(kl_divergence(original, found.logits.log_softmax(dim=-1))) / counts,
        "agreement": total(best == original.top) / counts,
    }
    return {name: values.cpu().numpy() for name, values in measured.items()}


@dataclass(frozen=True)
class PassCost:
    """What a measurement costs: passes over the samples, and seconds by the pace of one pass of the original."""

    passes: int
    seconds: float

    @classmethod
    def timed(cls, loaded: LoadedModel, samples: Sequence[Sample], batch_size: int, passes: int) -> PassCost:
        """So many passes, by the clock: runs one batch twice, of which the second counts."""
        batch = list(samples[:batch_size])
        items = PreparedItems(loaded, [replace(sample, answer=sample.answer or "x") for sample in batch], len(batch))
        items.measure()
        began = time.perf_counter()
        items.measure()
        return cls(passes, passes * (time.perf_counter() - began) * -(-len(samples) // batch_size))

    def __str__(self) -> str:
        time_ = f"{self.seconds:.0f} s" if self.seconds < 90 else f"{self.seconds / 60:.0f} min"
        return f"{self.passes:,} passes over the samples, about {time_}"
