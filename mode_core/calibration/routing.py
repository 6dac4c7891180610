"""Keeps which experts the tokens of a sample used, while the probe runs; and asks one sample for its routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from mode_core.models import VISION, Encoded, LoadedModel, encode_checked
from mode_core.probing.observation import Observation
from mode_core.probing.probe import Probe
from mode_core.probing.router_scores import RouterScores
from mode_core.runs.token_routes import MOST_TOKENS, TokenRoutes
from mode_core.samples import Sample

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # experts and weights [T, k], entropy [T]


class RouteKeeper:
    """What the banks chose for some samples of the batch under way. `watching` is put in place around the probe.

    Memory: those of `TokenRoutes`, in int64 and float32, of the samples of one batch.
    """

    def __init__(self, loaded: LoadedModel, wanted: Callable[[], bool] = lambda: True):
        self.loaded, self.watching = loaded, RouterScores(loaded, wanted)
        self._found: dict[tuple[str, str], Found] = {}  # (sample, bank)

    def observe(self, seen: Observation, rows: Iterable[int]) -> None:
        """Take one bank's choices for these rows of the batch."""
        length, top = seen.encoded.modality.shape[1], seen.weights.float().sort(dim=1, descending=True)
        experts = seen.experts.gather(1, top.indices)
        arrays = [one.cpu().numpy() for one in (experts, top.values, self.watching.entropy(seen))]
        attended = seen.encoded.attended
        for row in rows:
            places = row * length + np.flatnonzero(attended[row])[:MOST_TOKENS]
            self._found[seen.encoded.ids[row], seen.bank.name] = tuple(one[places] for one in arrays)

    def take(self, encoded: Encoded, row: int) -> TokenRoutes:
        """The routes of one row, which all banks have seen."""
        sample, attended = encoded.ids[row], np.flatnonzero(encoded.attended[row])
        places = attended[:MOST_TOKENS]
        vision = encoded.modality[row].cpu().numpy()[places] == VISION
        ids = encoded.inputs["input_ids"][row].cpu().numpy()[places]
        words = tuple(
            "" if seen else self.loaded.tokenizer.decode([one]) for one, seen in zip(ids, vision, strict=True)
        )
        banks = tuple(self.loaded.banks.values())
        nothing = (np.zeros((len(places), 1)), np.zeros((len(places), 1)), np.full(len(places), np.nan))
        found = [self._found.pop((sample, bank.name), nothing) for bank in banks]  # a bank may see none of the tokens
        k = max(experts.shape[1] for experts, _, _ in found)
        experts, weights = (
            np.stack([np.pad(one[part], ((0, 0), (0, k - one[part].shape[1]))) for one in found]) for part in (0, 1)
        )
        sizes = tuple(bank.experts for bank in banks)
        return TokenRoutes(
            sample, tuple(bank.name for bank in banks), sizes, len(attended), words, vision,
            encoded.template_mask[row].cpu().numpy()[places], experts.astype(np.uint16), weights.astype(np.float16),
            np.stack([entropy for _, _, entropy in found]).astype(np.float16),
        )  # fmt: skip

    def forget(self) -> None:
        """Drop what was seen of a batch, and of passes that nobody asked about."""
        self._found.clear()
        self.watching.noted.clear()


def routes_of(loaded: LoadedModel, sample: Sample) -> TokenRoutes:
    """Which experts the tokens of this sample use in the model as it is now, in one forward pass.

    Raises:
        SampleError: the sample cannot be read, or the model's processor refuses it.
    """
    encoded, keeper = encode_checked(loaded, [sample]), RouteKeeper(loaded)
    with keeper.watching, Probe(loaded, (), lambda seen: keeper.observe(seen, (0,))) as probe:
        probe.run(encoded)
    return keeper.take(encoded, 0)
