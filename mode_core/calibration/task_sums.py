"""Selections counted by the task that their sample belongs to, while the probe runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mode_core.modalities import CODES
from mode_core.models import PADDING, ExpertBank
from mode_core.probing.observation import Observation
from mode_core.samples import Sample
from mode_core.statistics.model_statistics import ByTask

MOST_TASKS = 64  # names beyond that are ids rather than tasks, and nothing is counted by them


class TaskSums:
    """Running counts of `ExpertStatistics.by_task`, of the tasks that `given` names; "" is that of samples without one.

    Memory: tasks × banks × 3 modalities × E doubles, and the choices of one batch; it does not grow with the samples.
    """

    def __init__(self, banks: Sequence[ExpertBank], given: Sequence[Sample]):
        names = sorted({sample.task or "" for sample in given})
        self.names = names if len(names) <= MOST_TASKS else []
        self.place = {sample.id: names.index(sample.task or "") for sample in given} if self.names else {}
        self.row = {bank.name: row for row, bank in enumerate(banks)}
        self.experts = max(bank.experts for bank in banks)
        self.counts = torch.zeros(len(self.names), len(self.row), len(CODES), self.experts, dtype=torch.float64)
        self._waiting: dict[str, tuple[Tensor, ...]] = {}

    def observe(self, seen: Observation) -> None:
        """One bank's choices wait until the batch is through, so that one that broke down counts nowhere."""
        if not self.names:
            return
        kind = seen.encoded.modality
        used = torch.nonzero(kind.ravel() != PADDING).ravel()
        task = torch.tensor([self.place[one] for one in seen.encoded.ids], device=kind.device)
        of_token = task.repeat_interleave(kind.shape[1])[used], kind.ravel()[used], seen.experts[used]
        self._waiting[seen.bank.name] = of_token

    def finish_batch(self) -> None:
        """All banks have seen the batch."""
        for name, (task, kind, experts) in self._waiting.items():
            cell = (task * len(CODES) + kind - 1)[:, None] * self.experts + experts
            counts = torch.bincount(cell.ravel().cpu(), minlength=self.counts[:, 0].numel())
            self.counts[:, self.row[name]] += counts.view_as(self.counts[:, 0])
        self._waiting = {}

    def result(self) -> ByTask:
        """What was counted so far, of the tasks that came."""
        came = zip(self.names, self.counts, strict=True)
        return {name: counts.numpy().copy() for name, counts in came if counts.any()}
