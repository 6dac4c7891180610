"""Which experts the tokens of a few samples used: one safetensors file of a run, and what a reader is given.

A sample's routes are `[banks, T, k]`: ids as uint8 (uint16 in banks of more than 256 experts), weights as float16, and
router entropy as float16 `[banks, T]`. Of a sample the first `MOST_TOKENS` tokens are kept; so 48 banks × top-8 take at
most 2.6 MB a sample, 41 MB for the sixteen that a calibration keeps to be looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from typing_extensions import TypedDict

from mode_core.errors import RunError
from mode_core.files import atomic_write, tensor_bytes
from mode_core.json_files import OPEN, Count, Name, shortened
from mode_core.modalities import VISION_TOKENS
from mode_core.runs.records import read_of_samples

FORMAT = "mode-token-routes/1"
MOST_TOKENS = 2048


@dataclass(frozen=True)
class TokenRoutes:
    """The path of one sample's first T tokens through all banks; padding is left out.

    `words` are the text tokens' texts ("" for a vision token), `vision` and `template` bool `[T]`. `experts` and
    `weights` `[banks, T, k]`: what the router chose, largest weight first; a weight of 0 is no choice (a bank that does
    not see this token, or one of smaller top-k). `entropy` `[banks, T]` in bits, NaN where not known. `sizes` are the
    banks' numbers of experts, `tokens` all tokens of the sample.
    """

    sample: str
    banks: tuple[str, ...]
    sizes: tuple[int, ...]
    tokens: int
    words: tuple[str, ...]
    vision: np.ndarray
    template: np.ndarray
    experts: np.ndarray
    weights: np.ndarray
    entropy: np.ndarray

    def weight_of(self, bank: int, expert: int) -> np.ndarray:
        """The routing weight of one expert for every token, float32 `[T]`; 0 where it was not chosen."""
        chosen = self.experts[bank] == expert
        return np.where(chosen, self.weights[bank].astype(np.float32), 0).sum(axis=1)

    def parted(self, other: TokenRoutes) -> np.ndarray:
        """How many of a token's experts the other routes do not have, `[banks, T]`: where two models' paths part.

        Raises:
            RunError: these are routes of other banks, or of other tokens.
        """
        if self.banks != other.banks or self.words != other.words or self.experts.shape != other.experts.shape:
            raise RunError(
                f"The two routes of the sample {shortened(self.sample)} are not of the same tokens and banks."
            )
        shared = (self.experts[..., :, None] == other.experts[..., None, :]) & (other.weights[..., None, :] > 0)
        return ((self.weights > 0) & ~shared.any(axis=-1)).sum(axis=-1)


class _Sample(TypedDict):
    """What the file says of one sample."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    sample: Name
    banks: list[Name]
    sizes: list[Annotated[int, Interval(ge=1, le=1 << 16)]]
    tokens: Count
    words: list[str]


FLAGS = (VISION_TOKENS, "template")
_ARRAYS = {VISION_TOKENS: "u1", "template": "u1", "experts": "u2", "weights": "f2", "entropy": "f2"}


def write_token_routes(path: Path, routes: Sequence[TokenRoutes]) -> None:
    """Write the routes of these samples, atomically."""
    tensors: dict[str, np.ndarray] = {}
    header = []
    for number, one in enumerate(routes):
        kinds = _ARRAYS | {"experts": "u1" if max(one.sizes) <= 256 else "u2"}
        tensors |= {f"{number}|{name}": getattr(one, name).astype(kind) for name, kind in kinds.items()}
        header.append({name: getattr(one, name) for name in _Sample.__annotations__})
    atomic_write(path, tensor_bytes(tensors, {"format": FORMAT, "token_routes": json.dumps(header)}))


def read_token_routes(path: Path) -> dict[str, TokenRoutes]:
    """What `write_token_routes` wrote, by sample; empty where there is no file.

    Raises:
        RunError: the file is damaged or newer; the text names the field.
    """
    tensors, header = read_of_samples(path, "token_routes", FORMAT, list[_Sample])
    return {entry["sample"]: _of_sample(number, entry, tensors, path) for number, entry in enumerate(header)}


def _of_sample(number: int, entry: _Sample, tensors: Mapping[str, np.ndarray], path: Path) -> TokenRoutes:
    """One sample's routes, whose shapes and ids must be those that its banks and words ask for."""
    told = f"{path} is damaged: routes of {shortened(entry['sample'])}"
    if missing := [name for name in _ARRAYS if f"{number}|{name}" not in tensors]:
        raise RunError(f"{told}: {missing[0]} is missing.")
    arrays = {name: tensors[f"{number}|{name}"] for name in _ARRAYS}
    banks, count, experts = len(entry["banks"]), len(entry["words"]), arrays["experts"]
    k = experts.shape[2] if experts.ndim == 3 else 0
    shapes: dict[str, tuple[int, ...]] = {VISION_TOKENS: (count,), "template": (count,), "entropy": (banks, count)}
    for name, array in arrays.items():
        shape, kind = shapes.get(name, (banks, count, k)), "f" if name in ("weights", "entropy") else "u"
        if array.shape != shape or array.dtype.kind != kind:
            raise RunError(f"{told}: {name} is {array.dtype} of shape {array.shape}; expected shape {shape}.")
    if len(entry["sizes"]) != banks or not (banks and count and k) or entry["tokens"] < count:
        raise RunError(f"{told}: {len(entry['sizes'])} sizes of {banks} banks, {count} of {entry['tokens']} tokens.")
    if (experts >= np.array(entry["sizes"])[:, None, None]).any() or not np.isfinite(arrays["weights"]).all():
        raise RunError(f"{told}: an expert that its bank does not have, or a weight that is no number.")
    held: dict[str, Any] = {name: tuple(entry[name]) for name in ("banks", "sizes", "words")}  # type: ignore[literal-required]
    held |= {name: array.astype(bool) if name in FLAGS else array for name, array in arrays.items()}
    return TokenRoutes(entry["sample"], tokens=entry["tokens"], **held)
