"""Which samples of a larger pool to calibrate on: first those that reach experts that the others do not.

One pass of the model counts, for every sample of the pool, the tokens of each modality that choose each expert. Then
samples are chosen greedily: always the one that adds most tokens to experts that have fewer than `LEAST_TOKENS` of a
kind, tokens beyond that not counted. What is counted is submodular, so the chosen ones reach at least 1 − 1/e of what
the best choice of as many would (Nemhauser, Wolsey and Fisher 1978). Once no sample adds anything, the rest is drawn
evenly by task and picture, as ever.

Memory: samples × modalities × experts of all banks in bytes, as no count beyond `LEAST_TOKENS` matters: 12 KB a sample
for 48 banks of 128 experts and two modalities (three where the model hears), at most `MOST_BYTES`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from mode_core.errors import SettingsError
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.modalities import CODES, MODALITIES
from mode_core.models import encode_checked, usable
from mode_core.probing.probe import Probe
from mode_core.quantization.model_lock import original
from mode_core.quantization.settings import LEAST_TOKENS
from mode_core.samples import SampleList

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.probing.observation import Observation

MOST_BYTES = 1 << 30


def balanced(
    loaded: LoadedModel,
    pool: SampleList,
    limit: int,
    seed: int = 0,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    strict: bool = False,
) -> tuple[SampleList, dict[str, object]]:
    """`limit` samples of the pool in its order, and what is told of them: how many experts they cover of each kind of
    token, and how many an even draw of as many would. The same for the same seed. `strict` ends at a bad sample.

    Raises:
        SettingsError: a pool that is no larger than `limit`, or too large for memory.
        SampleError: none of the samples can be read, or with `strict` one. Cancelled: a stop was asked for.
    """
    if not 0 < limit < len(pool):
        raise SettingsError(
            f"--balance {limit} picks so many samples from more of them, at least one; the pool holds {len(pool)}. "
            "Give more samples, or leave --balance out."
        )
    with original(loaded):
        pool = usable(loaded, pool, strict, cancel)
        counts = routing_counts(loaded, pool, progress, cancel)
    limit = min(limit, len(pool))
    reaching = greedy(counts, limit, seed)
    taken = set(reaching)
    left = SampleList([sample for place, sample in enumerate(pool) if place not in taken])
    names = {sample.id for sample in left.draw(limit - len(taken), seed)} if len(taken) < limit else set()
    places = [place for place, sample in enumerate(pool) if place in taken or sample.id in names]
    found = SampleList([pool[place] for place in places], pool.errors)
    found.notes, found.drawn = pool.notes, {"by": "reach of experts", "seed": seed, "of": len(pool)}
    even = {sample.id for sample in pool.draw(limit, seed)}
    drawn = [place for place, sample in enumerate(pool) if sample.id in even]
    told: dict[str, object] = {"pool": len(pool), "chosen_for_reach": len(reaching), "drawn_evenly": len(names)}
    for row, kind in enumerate(counted(loaded)):
        if not (MODALITIES[kind].always or counts[:, row].any()):
            continue
        ours, theirs = (int(covered(counts[chosen, row]).sum()) for chosen in (places, drawn))
        told[f"experts_with_{LEAST_TOKENS}_{kind}_tokens"] = f"{ours} of {counts.shape[2]} (an even draw: {theirs})"
    return found, told


def counted(loaded: LoadedModel) -> list[str]:
    """The modalities whose tokens this model may see; one that does not hear has none of sounds."""
    return [name for name, one in MODALITIES.items() if one.always or loaded.audio_ids]


def routing_counts(
    loaded: LoadedModel,
    samples: SampleList,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    batch_size: int = 8,
) -> np.ndarray:
    """Tokens of each sample that chose each expert, at most `LEAST_TOKENS`: uint8 `[S, M, X]`, M the modalities of
    `counted`, X the experts of all banks one after another."""
    sizes = [bank.experts for bank in loaded.banks.values()]
    starts = dict(zip(loaded.banks, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    codes = [CODES[name] for name in counted(loaded)]
    shape = (len(samples), len(codes), sum(sizes))
    if np.prod(shape, dtype=float) > MOST_BYTES:
        raise SettingsError(
            f"A pool of {len(samples):,} samples is too large to balance for {shape[2]:,} experts; draw at most "
            f"{MOST_BYTES // (len(codes) * shape[2]):,} of them first, with --limit."
        )
    counts, reporter = np.zeros(shape, dtype=np.uint8), Reporter(progress, len(samples), cancel)
    with Probe(loaded, (), lambda seen: None) as probe:
        for first in range(0, len(samples), batch_size):
            batch = samples[first : first + batch_size]
            probe.run(encode_checked(loaded, batch), _counter(counts[first : first + len(batch)], starts, codes))
            reporter.step("which experts the samples reach", len(batch))
    return counts


def _counter(counts: np.ndarray, starts: dict[str, int], codes: list[int]) -> Callable[[Observation], None]:
    """An observer that counts one batch into its rows `[batch, M, X]`."""

    def count(seen: Observation) -> None:
        start, experts = starts[seen.bank.name], seen.bank.experts
        chosen = seen.experts.reshape(*seen.encoded.modality.shape, -1)
        for column, code in enumerate(codes):
            for row, own in enumerate(seen.encoded.modality == code):
                tokens = torch.bincount(chosen[row, own].flatten(), minlength=experts).clamp_max(LEAST_TOKENS)
                counts[row, column, start : start + experts] = tokens.cpu().numpy()

    return count


def greedy(counts: np.ndarray, limit: int, seed: int = 0, least: int = LEAST_TOKENS) -> list[int]:
    """At most `limit` places of `counts` `[S, …]`, each the one that adds most of what is missing to `least`, until
    none adds anything; of equal ones that with the lowest lot.

    What a sample adds only falls as others are chosen, so only those that may still add most are looked at again.
    """
    table = counts.reshape(len(counts), -1)
    missing = np.full(table.shape[1], least, dtype=np.int64)
    lots = np.random.default_rng(seed).permutation(len(table)).tolist()

    def gain(place: int) -> int:
        return int(np.minimum(table[place], missing).sum())

    heap = [(-gain(place), lots[place], place) for place in range(len(table))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < limit:
        _, lot, place = heapq.heappop(heap)
        now = (-gain(place), lot, place)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
        elif now[0] == 0:
            break
        else:
            chosen.append(place)
            missing = np.maximum(missing - table[place], 0)
    return chosen


def covered(counts: np.ndarray, least: int = LEAST_TOKENS) -> np.ndarray:
    """Which experts these samples give at least `least` tokens: counts `[S, X]` → bool `[X]`."""
    return counts.sum(axis=0, dtype=np.int64) >= least
