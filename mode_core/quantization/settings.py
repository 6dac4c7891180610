"""How weights are rounded, and how `gptq` looks at data: frozen objects that check themselves, read without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mode_core.errors import SettingsError
from mode_core.modalities import KEY_RATIO, SIGNAL
from mode_core.quantization.quantizers import DATA_FREE, QUANTIZERS, QuantizerKind, quantizer_kind
from mode_core.quantization.sizes import expert_bytes
from mode_core.quantization.widths import GROUP_SIZE, PAPER_BITS, UNTOUCHED, WIDTHS, by_side, group_length
from mode_core.settings import Settings, setting
from mode_core.statistics import BankShape, ExpertStatistics

DAMPING = 0.01  # of the mean of the Hessian's diagonal, added to it
BLOCK = 128  # columns
WEIGHTINGS = ("tokens", "modality")
LEAST_TOKENS = 32  # of an expert, below which what was measured of it is not relied on


@dataclass(frozen=True)
class GptqSettings(Settings):
    """How `gptq` looks at data.

    `least_tokens`: an expert with fewer is quantized without it. `answers`: samples that have an answer are read with
    it, so that the tokens that an answer is made of count too. `own_answers`: the model answers every sample first, in
    at most so many tokens, in the place of the answers that samples have (0: it does not). `affinity`: the power of a
    token's routing weight that it counts with, 0 for all alike, 1 for VEQ-MA's token–expert affinity.

    Raises:
        SettingsError: a setting out of its range, with the range.
    """

    damping: float = DAMPING
    block: int = setting(BLOCK, least=1)
    weighting: str = "tokens"
    affinity: float = setting(0.0, least=0)
    key_ratio: float = KEY_RATIO
    signal: str = SIGNAL
    vision_weight: float = 1.0
    answers: bool = True
    own_answers: int = setting(0, least=0)
    least_tokens: int = setting(LEAST_TOKENS, least=1)
    batch_size: int = setting(4, least=1)
    memory_bytes: int = setting(4 << 30, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weighting not in WEIGHTINGS:
            raise SettingsError(f"weighting must be one of {WEIGHTINGS}; got {self.weighting!r}.")
        if self.own_answers and not self.answers:
            raise SettingsError("own_answers are read with the samples; leave answers on, or own_answers at 0.")
        if not 0 < self.damping < 1:
            raise SettingsError(f"damping must lie between 0 and 1; got {self.damping}.")
        if not 0 < self.key_ratio <= 1:
            raise SettingsError(f"key_ratio must lie above 0 and at most at 1; got {self.key_ratio}.")
        if self.vision_weight < 0:
            raise SettingsError(f"vision_weight must not be negative; got {self.vision_weight}.")


def _own(texts: Iterable[str]) -> GptqSettings:
    """`["weighting=modality", "key_ratio=0.3"]` → settings of gptq."""
    plain: dict[str, Any] = asdict(GptqSettings())
    given: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        kind = type(plain[name])
        given[name] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    return GptqSettings(**given)


def _own_words(own: GptqSettings) -> list[str]:
    plain = asdict(GptqSettings())
    return [f"{name}={value}" for name, value in asdict(own).items() if value != plain[name]]


@dataclass(frozen=True)
class Quantizer(Settings):
    """What a width turns into: how the weights of experts, attention and shared experts are rounded.

    `group_size` and `symmetric` None: as the run's sensitivity was measured (`fitted`). `attention_bits` and
    `shared_bits` None: untouched. `gptq` are its own settings, `samples` how many calibration samples it looks at
    (None: all), drawn as `read_samples` draws.

    Raises:
        SettingsError: a setting that makes no sense, with the value and what is allowed.
    """

    method: str = setting(DATA_FREE, "--quantizer", "how weights are rounded", choices=lambda: list(QUANTIZERS))
    group_size: int | None = setting(
        None, "--group-size", "input channels that share a scale, -1 for the whole row", type=int, unset="as the run"
    )
    symmetric: bool | None = setting(
        None, "--asymmetric", "a zero point per group instead of a symmetric grid",
        lambda symmetric: ["--no-asymmetric" if symmetric else "--asymmetric"],
        action="boolean", read=lambda asymmetric: not asymmetric, unset="as the run",
    )  # fmt: skip
    attention_bits: int | None = setting(
        None, "--attention-bits", f"width of attention (the paper's code: {PAPER_BITS})", type=int, unset="untouched"
    )
    shared_bits: int | None = setting(
        None, "--shared-bits", f"width of shared experts (the paper's code: {PAPER_BITS})", type=int, unset="untouched"
    )
    samples: int | None = setting(
        None, "--quantizer-limit", "let it look at only N of them, drawn evenly by task and by having a picture",
        least=1, type=int, metavar="N", unset="all of them",
    )  # fmt: skip
    gptq: GptqSettings = setting(
        GptqSettings(), "--gptq", "gptq's own settings, e.g. weighting=modality damping=0.02", _own_words,
        nargs="+", metavar="NAME=VALUE", read=_own,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.gptq, Mapping):
            object.__setattr__(self, "gptq", GptqSettings(**self.gptq))
        quantizer_kind(self.method)
        if self.group_size is not None:
            group_length(1, self.group_size)
        for name in ("attention_bits", "shared_bits"):
            if (width := getattr(self, name)) is not None and width not in (*WIDTHS, UNTOUCHED):
                raise SettingsError(f"{name} must be one of {(*WIDTHS, UNTOUCHED)} or None for untouched; got {width}.")

    def fitted(self, statistics: ExpertStatistics) -> Quantizer:
        """The same with the grid that these statistics were measured with, where none is named."""
        measured: Mapping[str, Any] = statistics.settings
        return replace(
            self,
            group_size=int(measured.get("group_size", GROUP_SIZE)) if self.group_size is None else self.group_size,
            symmetric=bool(measured.get("symmetric", True)) if self.symmetric is None else self.symmetric,
        )

    @property
    def grid(self) -> dict[str, Any]:
        """What decides the bytes of a matrix, as `expert_bytes` and `rest_bytes` take it."""
        return {
            "group_size": GROUP_SIZE if self.group_size is None else self.group_size,
            "symmetric": self.symmetric is not False,
            "method": self.method,
        }

    @property
    def of_experts(self) -> Quantizer:
        """What decides the bytes of experts, all else on its default."""
        return Quantizer(self.method, self.group_size, self.symmetric)

    @property
    def kind(self) -> QuantizerKind:
        """Its row of `QUANTIZERS`."""
        return quantizer_kind(self.method)

    def sizes(
        self, statistics: ExpertStatistics, widths: tuple[int, ...], by_projection: bool = False
    ) -> dict[str, np.ndarray]:
        """Bytes of one packed expert at each width: bank → int `[B]`, by projection `[B, 2]`; each shape once."""
        alike = {bank.name: replace(bank.shape, layer=0) for bank in statistics}
        each = {shape: expert_bytes(shape, widths, by_projection=by_projection, **self.grid)
                for shape in dict.fromkeys(alike.values())}  # fmt: skip
        return {name: each[shape] for name, shape in alike.items()}

    def packed(self, shapes: Mapping[str, BankShape], bits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bytes of every packed expert at its bits (bank → int `[E]`, by projection `[E, 2]`): bank → int64 `[E]`."""
        sizes = {}
        for name, own in bits.items():
            widths, columns = np.unique(own), by_side(own)
            table = expert_bytes(shapes[name], widths.tolist(), by_projection=True, **self.grid)
            sizes[name] = sum(table[np.searchsorted(widths, columns[:, side]), side] for side in (0, 1))
        return sizes

    def packed_bytes(self, statistics: ExpertStatistics, bits: Mapping[str, np.ndarray]) -> int:
        """Bytes of all packed experts at their bits, from shapes alone."""
        return int(sum(own.sum() for own in self.packed({bank.name: bank.shape for bank in statistics}, bits).values()))
