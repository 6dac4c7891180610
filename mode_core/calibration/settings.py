"""What a calibration measures, and the KL of the answer: frozen objects that check themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mode_core.errors import SettingsError
from mode_core.modalities import KEY_RATIO, SIGNAL
from mode_core.probing.signals import SIGNALS
from mode_core.quantization.widths import DROPPED, GROUP_SIZE, PER_CHANNEL, WIDTHS
from mode_core.settings import Settings, setting
from mode_core.statistics import BINS

MEASURED = (DROPPED, *WIDTHS)  # 0 bits: what it costs to leave an expert out
OWN_TOKENS = 32  # longest answer of the model's own, where no other number is given
MAX_EXEMPLARS = 64  # of each modality per expert
POSITIONS = ("last", "answers")  # where the KL of the answer is taken


@dataclass(frozen=True)
class CalibrationSettings(Settings):
    """Settings of one calibration. The defaults are the paper's, with 1 bit measured as well.

    `bits`: widths whose damage is measured; 0 measures what leaving an expert out costs. `signals`: what ranks the
    vision tokens of a sample, names of `mode_core.probing.signals.SIGNALS`. `group_size` (input channels per scale,
    −1 = whole row) and `symmetric` say how weights are rounded. `sensitivity` False counts frequencies only.
    `batch_size` samples go through the model together. `token_scores_for` samples are kept with their pictures and
    scores, to be looked at; `exemplars` tokens of each modality are kept per expert, those it was chosen for most
    strongly.
    `own_answers`: the model answers every sample first (greedy, at most so many tokens; 0: it does not), and the
    answer's tokens are counted and measured as text; an answer that the sample has is not looked at, as always here.
    `gradients` adds the backward passes that fisher and its relatives need: every sample is answered by the model
    itself (drawn by `seed`, at most `gradient_tokens` tokens), and `gradient_draws` random projections are averaged,
    plain and softened by `gradient_temperature`. `hessian_probes` random vectors a sample estimate the Hessian's trace
    (0: none). Nothing else in calibration is random.
    `saliency` sums how much each expert adds to its bank's output, routing weight × norm of its own (REAP).
    `imatrix` sums what enters every matrix of the decoder (see `imatrix`), vision tokens ranked by the first of
    `signals` and parted at `imatrix_key_ratio`, which is settled then.
    What was measured is written to the run after `checkpoint_samples` samples or `checkpoint_seconds` seconds,
    whichever comes first. Rounded weights are kept in memory where those of all banks take at most `stack_bytes`
    (float32); otherwise they are made again from their scales: slower for small models, the same in numbers.

    Raises:
        SettingsError: the first setting that makes no sense, with what is allowed.
    """

    bits: tuple[int, ...] = setting(
        (1, 2, 3, 4), "--measure-bits", "widths to measure; 0 is what leaving an expert out costs", type=int, nargs="+"
    )
    signals: tuple[str, ...] = setting(
        (SIGNAL,), "--signals", "what ranks the vision tokens, all in the same pass; 'all' for every one",
        nargs="+", metavar="SIGNAL", read=lambda names: tuple(SIGNALS) if names == ["all"] else names,
    )  # fmt: skip
    group_size: int = setting(
        GROUP_SIZE, "--group-size", "input channels that share a scale, -1 for the whole row", type=int
    )
    symmetric: bool = setting(
        True, "--asymmetric", "a zero point per group instead of a symmetric grid",
        lambda symmetric: ["--no-asymmetric" if symmetric else "--asymmetric"],
        action="boolean", read=lambda asymmetric: not asymmetric, unset="no",
    )  # fmt: skip
    sensitivity: bool = setting(
        True, "--no-sensitivity", "count frequencies only", lambda _: [],
        action="store_true", read=lambda given: not given,
    )  # fmt: skip
    batch_size: int = setting(4, "--batch-size", "samples per forward pass", least=1, type=int)
    token_scores_for: int = setting(
        16, "--token-scores", "samples kept with their pictures and scores, to be looked at",
        least=0, type=int, metavar="N",
    )  # fmt: skip
    own_answers: int = setting(
        0, "--own-answers", f"the model answers every sample first, in at most N tokens ({OWN_TOKENS} where no N is "
        "given); these tokens are counted too, in the place of any answer that the sample has",
        least=0, type=int, nargs="?", const=OWN_TOKENS, metavar="N",
    )  # fmt: skip
    exemplars: int = setting(8, "--exemplars", "tokens of each modality to keep per expert", type=int)
    seed: int = setting(0, "--seed", "of the answers that the model draws", type=int)
    gradients: bool = setting(
        False, "--gradients", "add the backward pass that fisher, mode_soft_fisher, veq and the like need, the best "
        "estimates below 4 bits; about five times the time", lambda wanted: ["--gradients" if wanted else
        "--no-gradients"], action="boolean", unset="on where the model lies in memory with room to spare",
    )  # fmt: skip
    gradient_tokens: int = setting(32, "--gradient-tokens", "most tokens of those answers", least=1, type=int)
    gradient_draws: int = setting(1, "--gradient-draws", "random projections that are averaged", least=1, type=int)
    gradient_temperature: float = setting(
        2.0, "--gradient-temperature", "what softens the second set of gradients", least=1, type=float
    )
    hessian_probes: int = setting(
        0, "--hessian-probes", "random vectors a sample to estimate the Hessian's trace with, for hessian_trace; small "
        "models only", least=0, type=int, metavar="N",
    )  # fmt: skip
    saliency: bool = setting(
        False, "--saliency", "also sum routing weight × norm of the output of every expert, for reap",
        lambda _: [], action="store_true",
    )  # fmt: skip
    imatrix: bool = setting(
        False, "--imatrix", "also sum what enters every matrix of the decoder, for the target imatrix",
        lambda _: [], action="store_true",
    )  # fmt: skip
    imatrix_key_ratio: float = setting(KEY_RATIO, "--imatrix-key-ratio", "share of key vision tokens in it", type=float)
    checkpoint_samples: int = setting(
        64, "--checkpoint-samples", "write what was measured every N samples", least=1, type=int, metavar="N"
    )
    checkpoint_seconds: float = setting(
        60.0, "--checkpoint-seconds", "and every S seconds, whichever comes first", least=0, type=float, metavar="S"
    )
    stack_bytes: int = setting(1 << 30, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bits", tuple(self.bits))
        object.__setattr__(self, "signals", tuple(self.signals))
        if not self.bits or list(self.bits) != sorted(set(self.bits)) or not set(self.bits) <= set(MEASURED):
            raise SettingsError(f"bits must be different widths of {MEASURED} in rising order; got {self.bits}.")
        if not self.signals or len(set(self.signals)) != len(self.signals) or not set(self.signals) <= set(SIGNALS):
            raise SettingsError(f"signals must be different names of {', '.join(SIGNALS)}; got {self.signals}.")
        if self.group_size != PER_CHANNEL and self.group_size < 1:
            raise SettingsError(f"group_size must be at least 1, or -1 for the whole row; got {self.group_size}.")
        if not 0 <= self.exemplars <= MAX_EXEMPLARS:
            raise SettingsError(f"exemplars must be 0 to {MAX_EXEMPLARS} tokens per expert; got {self.exemplars}.")
        if self.gradients and not self.sensitivity:
            raise SettingsError("gradients weigh the damage of rounding; leave sensitivity on, or gradients off.")
        if self.saliency and not self.sensitivity:
            raise SettingsError("saliency needs the outputs of the experts; leave sensitivity on, or saliency off.")
        if not 0 < self.imatrix_key_ratio <= 1:
            raise SettingsError(f"imatrix_key_ratio must lie above 0 and at most at 1; got {self.imatrix_key_ratio}.")

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two statistics to be added; batches, checkpoints and memory change nothing."""
        return {
            "bits": list(self.bits),
            "signals": list(self.signals),
            "group_size": self.group_size,
            "symmetric": self.symmetric,
            "sensitivity": self.sensitivity,
            "quantizer": "rtn",
            **self._drawn_with(),
        }

    def answering_cost(self, samples: int) -> str:
        """What answering so many samples first takes, in words; empty where they are not answered."""
        if not (most := self.own_answers):
            return ""
        return (
            f"The model answers every sample first: for each batch one pass more and up to {most} short ones, and up "
            f"to {samples * most:,} tokens more to measure ({samples:,} samples, at most {most} tokens each)."
        )

    @property
    def extras(self) -> tuple[str, ...]:
        """What is measured beyond the usual: names of `mode_core.statistics.EXTRAS`."""
        wanted = {"gradients": self.gradients, "saliency": self.saliency, "hessian": self.hessian_probes > 0}
        return tuple(name for name, asked in wanted.items() if asked)

    def _drawn_with(self) -> dict[str, Any]:
        """What was added and how answers were drawn; absent where not, so that older statistics still add up."""
        drawn: dict[str, Any] = {"saliency": True} if self.saliency else {}
        drawn |= {"own_answers": self.own_answers} if self.own_answers else {}
        if self.gradients or self.hessian_probes:
            drawn |= {"gradients": self.gradients, "gradient_tokens": self.gradient_tokens, "seed": self.seed}
            drawn |= {"gradient_draws": self.gradient_draws, "gradient_temperature": self.gradient_temperature}
            drawn |= {"hessian_probes": self.hessian_probes}
        return drawn


@dataclass(frozen=True)
class LogitKLSettings(Settings):
    """What is measured: which vision tokens are key, at which positions KL is taken, and the batch.

    Raises:
        SettingsError: a setting out of range, with what is allowed.
    """

    key_ratio: float = setting(KEY_RATIO, "--logit-kl-key-ratio", "share of key tokens", type=float, metavar="RATIO")
    signal: str = SIGNAL
    positions: str = setting(
        "last", "--logit-kl-positions",
        "last (position of the prompt) or answers (all positions of the reference answer)", choices=POSITIONS,
    )  # fmt: skip
    batch_size: int = setting(8, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positions not in POSITIONS:
            raise SettingsError(f"positions must be one of {', '.join(POSITIONS)}; got {self.positions!r}.")
        if not 0 < self.key_ratio <= 1 or round(BINS * self.key_ratio) < 1:
            raise SettingsError(f"key_ratio must lie in (0, 1], in whole per cents; got {self.key_ratio!r}.")

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two measurements to be added."""
        return {"key_ratio": float(self.key_ratio), "signal": self.signal, "positions": self.positions}
