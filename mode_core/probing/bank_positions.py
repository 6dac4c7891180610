"""Banks that see a part of the positions: which part it is.

ERNIE-VL has two banks a layer, and sends text rows to one and vision rows (with the marks around a picture) to the
other. A bank then gets fewer rows than the batch has positions, in their order. Which ones is found among the masks
that the inputs hold, and proven by comparing the rows with what entered the layer's experts as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mode_core.errors import CalibrationError
from mode_core.models import PADDING, VISION, Encoded, ExpertBank


@dataclass
class Parts:
    """One pass: what entered each layer with several banks, and the positions that each bank saw of it."""

    encoded: Encoded
    entered: dict[int, Tensor] = field(default_factory=dict)  # layer -> [T, H]
    known: list[tuple[Tensor, Encoded]] = field(default_factory=list)  # positions, and the batch with only these

    def enters(self, layer: int, states: Tensor) -> None:
        """Keep what enters all banks of a layer, `[batch, L, H]`."""
        self.entered = {layer: states.detach().reshape(-1, states.shape[-1])}

    def rows(self, bank: ExpertBank, states: Tensor) -> Tensor | None:
        """Which positions the rows of `states` `[n, H]` are: int64 `[n]`; None where they are all, in order.

        Raises:
            CalibrationError: they are a part that no known mask tells.
        """
        if len(states) == self.encoded.modality.numel():
            return None
        whole = self.entered.get(bank.layer)
        for mask in self._masks() if whole is not None else ():
            if int(mask.sum()) == len(states) and torch.equal(whole[mask], states):
                rows = torch.nonzero(mask).ravel()
                same = next((known for known, _ in self.known if torch.equal(known, rows)), None)
                if same is None:
                    self.known.append((rows, self._batch_of(rows)))
                return rows if same is None else same
        raise CalibrationError(
            f"{bank.name} sees {len(states)} of {self.encoded.modality.numel()} positions, and no mask of the inputs "
            "(token types, vision tokens) says which; this family is not read yet."
        )

    def only(self, rows: Tensor) -> Encoded:
        """The batch in which all positions but `rows` count as padding; the same object for the same rows."""
        return next(batch for known, batch in self.known if known is rows)

    def _masks(self) -> Iterator[Tensor]:
        shape = self.encoded.modality.shape
        kinds = [self.encoded.modality == VISION]
        kinds += [
            value != 0
            for name, value in self.encoded.inputs.items()
            if "token_type" in name and isinstance(value, Tensor) and value.shape == shape
        ]
        for kind in reversed(kinds):
            yield kind.ravel()
            yield ~kind.ravel()

    def _batch_of(self, rows: Tensor) -> Encoded:
        modality = torch.full_like(self.encoded.modality, PADDING)
        modality.view(-1)[rows] = self.encoded.modality.reshape(-1)[rows]
        return replace(self.encoded, modality=modality)
