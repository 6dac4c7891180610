"""Traces as the engines write them: vLLM's and SGLang's responses, a line of JSON each, and SGLang's recorder.

| engine | where | what |
|---|---|---|
| vLLM, `return_routed_experts` | `choices[].routed_experts` | base64 `.npy`, `[tokens − 1, banks, k]`, −1: cached |
| SGLang, `return_routed_experts` | `meta_info.routed_experts` | base64 of flat int32, `[tokens − 1, layers, k]` |
| SGLang's recorder | a `.pt` file | `logical_count`, or `records` with physical ids and their map to logical ones |
| `TrafficProfile.save` | a `.json` file | counts that were read before |

Token ids beside them (`prompt_token_ids`, or `input_ids`) tell vision tokens: those of the model's image token, and
SGLang's stand-ins for pictures, which lie above the vocabulary. What a model wrote is text. Nothing is unpickled.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mode_core.statistics import ExpertStatistics
from mode_core.traffic.profile import NO_ONE, TrafficError, TrafficProfile

MOST_LINE = 1 << 28  # bytes of one response
IDS = ("prompt_token_ids", "input_ids")


def token_ids(source: str | None, trust_remote_code: bool = False) -> tuple[tuple[int, ...], int | None]:
    """Ids of a model's vision tokens, and the size of its vocabulary; nothing where the model is not at hand."""
    from mode_core.models import ModelError
    from mode_core.models.encoding import vision_token_ids
    from mode_core.models.outline import configuration

    try:
        config = configuration(source or "", trust_remote_code)
        return vision_token_ids(config), config.get_text_config().vocab_size
    except ModelError:
        return (), None


def read_traffic(
    path: Path, statistics: ExpertStatistics, vision_ids: Collection[int] = (), vocabulary: int | None = None
) -> TrafficProfile:
    """The counts of a trace of the model that `statistics` are of; `vision_ids` and `vocabulary` are that model's
    (`token_ids`).

    Without `vision_ids`, or without token ids in the trace, all tokens count as one kind (see `TrafficProfile`).

    Raises:
        TrafficError: no such file, another form, or another model's.
    """
    if not path.is_file():
        raise TrafficError(f"There is no file {path}.")
    if path.suffix == ".json" and _is_profile(path):
        return TrafficProfile.load(path, statistics)
    profile = TrafficProfile.empty(statistics, path.name)
    if path.suffix == ".pt":
        _recorded(path, profile, vision_ids, vocabulary)
    else:
        for where, response in _responses(path):
            for held in _choices(response):
                chosen = _decoded(held, profile, where)
                profile.add(chosen, _seeing(held, len(chosen), vision_ids, vocabulary), where)
    if not profile.text.any() and not profile.vision.any():
        raise TrafficError(
            f"{path} holds no routed experts. Looked for 'routed_experts' in every line ('choices', 'meta_info'); ask "
            "the engine for them with return_routed_experts."
        )
    return profile


def _is_profile(path: Path) -> bool:
    """Is it no trace, but what was counted of one?"""
    with path.open("rb") as opened:
        return b'"format": "mode-traffic/' in opened.read(200)


def _responses(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            where = f"{path}, line {number}"
            if len(line) > MOST_LINE:
                raise TrafficError(f"{where} is longer than {MOST_LINE >> 20} MB.")
            if not line.strip():
                continue
            try:
                response = json.loads(line)
            except (ValueError, RecursionError) as broken:
                raise TrafficError(f"{where} is no JSON ({str(broken)[:80]}); give one response a line.") from None
            if not isinstance(response, Mapping):
                raise TrafficError(f"{where} is no JSON object; give one response a line.")
            yield where, response


def _choices(response: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every part of a response that has routed experts, with the token ids and counts that stand above it."""
    parts = response.get("choices")
    for part in parts if isinstance(parts, list) else [response.get("meta_info") or response]:
        if isinstance(part, Mapping) and isinstance(part.get("routed_experts"), str):
            yield {**response, **part}


def _decoded(held: Mapping[str, Any], profile: TrafficProfile, where: str) -> np.ndarray:
    """Expert ids, int64 `[tokens, layers, k]`."""
    try:
        content = base64.b64decode(held["routed_experts"], validate=True)
        packed = content[:6] == b"\x93NUMPY"
        chosen = np.load(io.BytesIO(content), allow_pickle=False) if packed else np.frombuffer(content, dtype="<i4")
    except (ValueError, binascii.Error, EOFError) as broken:
        raise TrafficError(f"{where}: 'routed_experts' cannot be read ({str(broken)[:120]}).") from None
    if not packed:
        chosen = _shaped(chosen, held, profile.shapes[0].top_k, where)
    if chosen.ndim != 3 or chosen.dtype.kind not in "iu" or chosen.shape[2] != profile.shapes[0].top_k:
        raise TrafficError(
            f"{where}: 'routed_experts' is {chosen.dtype} {list(chosen.shape)}; expected whole numbers [tokens, "
            f"layers, {profile.shapes[0].top_k}]."
        )
    return chosen.astype(np.int64)


def _shaped(flat: np.ndarray, held: Mapping[str, Any], top_k: int, where: str) -> np.ndarray:
    """SGLang's flat array by rows: of all tokens but the last, which was written and not read."""
    counts = [held.get(key) for key in ("prompt_tokens", "completion_tokens")]
    if not all(isinstance(count, int) for count in counts) or sum(counts) < 2:
        raise TrafficError(f"{where}: 'meta_info' lacks prompt_tokens or completion_tokens, which tell the rows.")
    rows = sum(counts) - 1
    if flat.size == 0 or flat.size % (rows * top_k):
        raise TrafficError(
            f"{where}: {flat.size} routed experts are no whole layers of {rows} tokens with {top_k} each."
        )
    return flat.reshape(rows, -1, top_k)


def _seeing(
    held: Mapping[str, Any], rows: int, vision_ids: Collection[int], vocabulary: int | None
) -> np.ndarray | None:
    """Which rows are vision tokens; None where nothing tells."""
    ids = next((held[key] for key in IDS if isinstance(held.get(key), list)), None)
    return None if ids is None or not vision_ids else _of_pictures(ids, rows, vision_ids, vocabulary)


def _of_pictures(ids: list[int], rows: int, vision_ids: Collection[int], vocabulary: int | None) -> np.ndarray:
    known = np.asarray(ids[:rows], dtype=np.int64)
    seeing = np.zeros(rows, dtype=bool)
    seeing[: len(known)] = np.isin(known, list(vision_ids))
    if vocabulary is not None:
        seeing[: len(known)] |= known >= vocabulary
    return seeing


def _recorded(path: Path, profile: TrafficProfile, vision_ids: Collection[int], vocabulary: int | None) -> None:
    """A file of SGLang's expert distribution recorder."""
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, pickle.UnpicklingError) as broken:
        reason = str(broken).splitlines()[0][:120] if str(broken) else type(broken).__name__
        raise TrafficError(f"{path} is no file of numbers and tensors alone ({reason}).") from None
    if isinstance(held, Mapping) and isinstance(held.get("logical_count"), torch.Tensor):
        counts = held["logical_count"].numpy()
        profile.add_counts(counts.reshape(-1, *counts.shape[-2:]).sum(axis=0), str(path))
        return
    records = held.get("records") if isinstance(held, Mapping) else None
    if not isinstance(records, list) or not isinstance(held.get("last_physical_to_logical_map"), torch.Tensor):
        raise TrafficError(f"{path} holds neither logical_count nor records with last_physical_to_logical_map.")
    logical = held["last_physical_to_logical_map"].numpy().astype(np.int64)
    for number, record in enumerate(records):
        _record(record, logical, profile, vision_ids, vocabulary, f"{path}, record {number}")


def _record(
    record: Mapping[str, Any], logical: np.ndarray, profile: TrafficProfile, vision_ids: Collection[int],
    vocabulary: int | None, where: str,
) -> None:  # fmt: skip
    """One forward pass: physical ids by token, or physical counts alone."""
    import torch

    layers = np.arange(len(logical))[:, None]
    if isinstance(record.get("topk_ids_of_layer"), torch.Tensor):
        physical = record["topk_ids_of_layer"].numpy().astype(np.int64)
        if physical.shape[0] != len(logical) or int(physical.max(initial=0)) >= logical.shape[1]:
            raise TrafficError(f"{where}: its ids do not fit the map of physical experts {list(logical.shape)}.")
        chosen = np.where(physical < 0, NO_ONE, logical[layers[..., None], np.maximum(physical, 0)]).transpose(1, 0, 2)
        ids = record.get("input_ids")
        told = bool(vision_ids) and isinstance(ids, list)
        profile.add(chosen, _of_pictures(ids, len(chosen), vision_ids, vocabulary) if told else None, where)
        return
    if not isinstance(record.get("global_physical_count"), torch.Tensor):
        raise TrafficError(f"{where} holds neither topk_ids_of_layer nor global_physical_count.")
    physical = record["global_physical_count"].numpy()
    counts = np.zeros((len(logical), int(logical.max()) + 1))
    np.add.at(counts, (np.broadcast_to(layers, logical.shape), logical), physical)
    profile.add_counts(counts, where)
