"""The sums that calibration keeps of one expert bank: which arrays there are, their axes, and adding two of them.

Axes of the stored arrays (all float64, leading axis = fold of the sample):

| array | axes | meaning |
|---|---|---|
| `text_selections` | fold, E | top-k selections of each expert by text tokens |
| `text_weight` | fold, E | sum of their routing weights g |
| `text_error`, `text_gated_error` | fold, E, B | Σ ‖E(x) − E_b(x)‖² over text tokens routed there; the same × g² |
| `text_support` | fold, E | tokens behind those error sums |
| `text_tokens`, `text_energy` | fold | text tokens seen; Σ ‖bank output‖² over them |
| `vision_*[signal]` | … , 100 | the same for vision tokens, per redundancy bin of that signal |
| `audio_*[signal]` | … , 100 | the same for audio tokens; only in statistics that saw any |
| `input_energy`, `input_tokens` | fold | Σ ‖x‖² and count of all routed tokens x entering the bank |
| `weight_norm` | E, 3 | Frobenius norm of gate, up, down |
| `weight_error` | E, B, 3 | ‖W − W_b‖² of gate, up, down at each width |

Extras, there only where calibration was asked for them (`extras` of the bank):

| extra | array | axes | meaning |
|---|---|---|---|
| `gradients` | `text_fisher` | fold, E, B | Σ over text tokens routed there of Σ_d g_d²·(w·(E(x) − E_b(x)))_d² |
| | `text_soft_fisher` | fold, E, B | the same with the gradient of the softened answers |
| | `text_fisher_support` | fold, E | tokens behind those sums (here the model's own answers are text tokens too) |
| | `text_fisher_tokens` | fold | text tokens of the gradient pass |
| | `text_gradient_energy` | fold | Σ ‖g‖² over them, g = ∂ log p(answer) / ∂ bank output |
| | `vision_…/<signal>` | … , 100 | the same for vision tokens, per redundancy bin |
| `saliency` | `text_saliency` | fold, E | Σ over text tokens routed there of ‖g·E(x)‖, what the expert adds |
| | `vision_saliency/<signal>` | … , 100 | the same for vision tokens, per redundancy bin |
| `hessian` | `hessian_trace` | fold, E, 3 | Σ over samples: estimated trace of the loss' Hessian in gate, up, down |
| | `hessian_samples` | fold | samples behind it |
| `logit_kl` | `text_logit_kl` | fold, E, B | Σ over samples of KL(p ‖ p with the expert rounded for text tokens only) |
| | `text_logit_kl_support` | fold, E | text tokens of these samples that chose the expert |
| | `text_logit_kl_samples` | fold | samples behind it that have text tokens |
| | `key_logit_kl…` | | the same for the key vision tokens of `settings["logit_kl"]` |

Memory: `banks × E × (3 + 2B) × (signals × 100 + 1) × folds` doubles, with gradients `(4 + 4B)` in the place of
`(3 + 2B)`, with audio `signals × 200`; it does not grow with the samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from mode_core.errors import StatisticsError
from mode_core.modalities import MODALITIES, RANKED, USUAL

BINS = 100
FOLDS = 8

TEXT_ARRAYS = {  # name -> axes after the fold axis
    "selections": ("E",),
    "weight": ("E",),
    "error": ("E", "B"),
    "gated_error": ("E", "B"),
    "support": ("E",),
    "tokens": (),
    "energy": (),
}
WEIGHT_ARRAYS = {"weight_norm": ("E", "M"), "weight_error": ("E", "B", "M")}
INPUT_ARRAYS = ("input_energy", "input_tokens")
# extra -> arrays as in TEXT_ARRAYS, for text and for the vision tokens of every signal
EXTRA_TOKEN_ARRAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "gradients": {
        "fisher": ("E", "B"),
        "soft_fisher": ("E", "B"),
        "fisher_support": ("E",),
        "fisher_tokens": (),
        "gradient_energy": (),
    },
    "saliency": {"saliency": ("E",)},
}
EXTRA_ARRAYS = {  # extra -> arrays in folds that tell no modality apart
    "hessian": {"hessian_trace": ("E", "M"), "hessian_samples": ()},
    "logit_kl": {
        "text_logit_kl": ("E", "B"),
        "text_logit_kl_support": ("E",),
        "text_logit_kl_samples": (),
        "key_logit_kl": ("E", "B"),
        "key_logit_kl_support": ("E",),
        "key_logit_kl_samples": (),
    },
}
EXTRAS = (*EXTRA_TOKEN_ARRAYS, *EXTRA_ARRAYS)


def endings(modality: str, signals: Iterable[str]) -> tuple[str, ...]:
    """What the names of a modality's arrays end in: nothing, or `/<signal>` for each where signals rank its tokens."""
    return tuple(f"/{signal}" for signal in signals) if modality in RANKED else ("",)


@dataclass(frozen=True)
class BankShape:
    """One expert bank's sizes: E experts, gate/up `[intermediate, hidden]`, down `[hidden, intermediate]`."""

    layer: int
    experts: int
    hidden: int
    intermediate: int
    top_k: int
    has_gate: bool = True


@dataclass(frozen=True)
class BankStatistics:
    """The sums of one bank. Attributes give totals over folds; `arrays` holds them fold by fold."""

    name: str
    shape: BankShape
    bits: tuple[int, ...]
    signals: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    @classmethod
    def empty(
        cls,
        name: str,
        shape: BankShape,
        bits: tuple[int, ...],
        signals: tuple[str, ...],
        folds: int = FOLDS,
        extras: Iterable[str] = (),
        modalities: Iterable[str] = USUAL,
    ) -> BankStatistics:
        """All-zero statistics of one bank; `extras` are names of `EXTRAS`."""
        shapes = cls.array_shapes(shape, len(bits), signals, folds, extras, modalities)
        return cls(name, shape, bits, signals, {key: np.zeros(axes) for key, axes in shapes.items()})

    @staticmethod
    def array_shapes(
        shape: BankShape,
        widths: int,
        signals: Iterable[str],
        folds: int = FOLDS,
        extras: Iterable[str] = (),
        modalities: Iterable[str] = USUAL,
    ) -> dict[str, tuple[int, ...]]:
        """The shape of every array, without taking memory for any."""
        size = {"E": shape.experts, "B": widths, "M": 3}

        def axes_of(axes: tuple[str, ...], *more: int) -> tuple[int, ...]:
            return (folds, *(size[axis] for axis in axes), *more)

        by_token = dict(TEXT_ARRAYS)
        alike: dict[str, tuple[str, ...]] = dict.fromkeys(INPUT_ARRAYS, ())
        for extra in extras:
            by_token |= EXTRA_TOKEN_ARRAYS.get(extra, {})
            alike |= EXTRA_ARRAYS.get(extra, {})
        shapes: dict[str, tuple[int, ...]] = {}
        for name in modalities:
            more = (BINS,) if MODALITIES[name].ranked else ()
            for end in endings(name, signals):
                shapes |= {f"{name}_{key}{end}": axes_of(axes, *more) for key, axes in by_token.items()}
        shapes |= {key: axes_of(axes) for key, axes in alike.items()}
        return shapes | {key: tuple(size[a] for a in axes) for key, axes in WEIGHT_ARRAYS.items()}

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of `EXTRAS` that these statistics hold: what `gradients` and the like added to calibration."""
        by_token = [extra for extra, keys in EXTRA_TOKEN_ARRAYS.items() if f"text_{next(iter(keys))}" in self.arrays]
        return (*by_token, *(extra for extra, keys in EXTRA_ARRAYS.items() if next(iter(keys)) in self.arrays))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of `MODALITIES` that these statistics hold arrays of; those without are zero."""
        held = (name for name in MODALITIES if name not in USUAL)
        return (*USUAL, *(name for name in held if any(f"{name}_tokens/{one}" in self.arrays for one in self.signals)))

    def having(self, modalities: Iterable[str]) -> BankStatistics:
        """The same, with arrays of zeros for those modalities that it has none of."""
        missing = [name for name in modalities if name not in self.modalities]
        if not missing:
            return self
        folds = self.arrays["text_tokens"].shape[0]
        shapes = self.array_shapes(self.shape, len(self.bits), self.signals, folds, self.extras, missing)
        return replace(self, arrays={key: np.zeros(axes) for key, axes in shapes.items()} | self.arrays)

    def tokens_by_fold(self, *modalities: str) -> np.ndarray:
        """Tokens of these modalities (without any: of all) seen, `[fold]`."""
        found = np.zeros_like(self.arrays["text_tokens"])
        for name in modalities or self.modalities:
            for end in endings(name, self.signals[:1]) if name in self.modalities else ():
                tokens = self.arrays[f"{name}_tokens{end}"]
                found = found + tokens.reshape(len(tokens), -1).sum(axis=1)
        return found

    def total(self, key: str) -> np.ndarray:
        """One array summed over folds (arrays of the weights alone have no folds and come as they are)."""
        array = self.arrays[key]
        return array if key in WEIGHT_ARRAYS else array.sum(axis=0)

    def text(self, key: str) -> np.ndarray:
        """`text_<key>` over all folds: `[E]`, `[E, B]` or a scalar."""
        return self.total(f"text_{key}")

    def vision(self, key: str, signal: str) -> np.ndarray:
        """`vision_<key>` of one redundancy signal over all folds: last axis = the 100 bins, key tokens first."""
        if signal not in self.signals:
            raise StatisticsError(
                f"These statistics hold no signal {signal!r}; they were calibrated with: {', '.join(self.signals)}."
            )
        return self.total(f"vision_{key}/{signal}")

    def __getattr__(self, attribute: str):
        """`bank.text_selections` → `[E]`; `bank.vision_selections[signal]` → `[E, 100]`."""
        arrays = self.__dict__.get("arrays", {})
        if attribute in arrays:
            return self.total(attribute)
        prefix = attribute + "/"
        if any(key.startswith(prefix) for key in arrays):
            return {key[len(prefix) :]: self.total(key) for key in arrays if key.startswith(prefix)}
        raise AttributeError(attribute)

    def __add__(self, other: BankStatistics) -> BankStatistics:
        if (self.name, self.shape, self.bits, self.signals) != (
            other.name,
            other.shape,
            other.bits,
            other.signals,
        ):
            raise StatisticsError(
                f"Bank {self.name} differs between the two statistics "
                f"({self.shape}, bits {self.bits}, signals {self.signals} against "
                f"{other.shape}, bits {other.bits}, signals {other.signals}); only runs of the same model and "
                "settings can be added."
            )
        if self.extras != other.extras:
            raise StatisticsError(
                f"Bank {self.name} holds {', '.join(self.extras) or 'no extras'} in one of the statistics and "
                f"{', '.join(other.extras) or 'no extras'} in the other; calibrate both with the same settings."
            )
        mine, theirs = self.having(other.modalities), other.having(self.modalities)
        arrays = {
            key: (np.maximum(value, theirs.arrays[key]) if key in WEIGHT_ARRAYS else value + theirs.arrays[key])
            for key, value in mine.arrays.items()
        }
        return replace(self, arrays=arrays)

    def without_fold(self, fold: int) -> BankStatistics:
        """The same bank as if the samples of one fold had not been drawn (for the jackknife)."""
        arrays = {
            key: value if key in WEIGHT_ARRAYS else np.delete(value, fold, axis=0) for key, value in self.arrays.items()
        }
        return replace(self, arrays=arrays)
