"""The quantizers by name, each with all that is said about it; read without torch.

A new one is a function `(weights [n, out, in], bits, group_size, symmetric) -> Codes` in a file of this package and a
row here; tests demand the rest. One that looks at samples is solved with Hessians instead (`filling`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from mode_core.errors import SettingsError
from mode_core.quantization.widths import DROPPED

REAL_ZERO_BITS = 16  # zero points that are fractions are kept in float16


@dataclass(frozen=True)
class QuantizerKind:
    """One quantizer: its names, what it looks at, and where its function stands ("module:function").

    `title` and `words` are its name and what is said of it on the screen; `looks_at` and `zero_points` its cells in the
    documentation's table. `needs_samples`: it sees what enters the experts. `package`: what has to be there, and
    `install` what pip gets it by.
    `real_zeros`: every group has a zero point that is a fraction, whatever grid is asked for.
    """

    name: str
    title: str
    words: str
    looks_at: str
    zero_points: str
    home: str = ""
    needs_samples: bool = False
    package: str = ""
    install: str = ""
    real_zeros: bool = False

    @property
    def function(self) -> Callable:
        """What quantizes a stack of matrices from the weights alone."""
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)

    @property
    def available(self) -> bool:
        """False where its package is not installed."""
        return not self.package or find_spec(self.package) is not None

    @property
    def missing(self) -> str:
        """What is not there, and how to get it."""
        others = ", ".join(name for name, kind in QUANTIZERS.items() if not kind.package)
        return (
            f"The quantizer {self.name!r} needs the package {self.package}, which is not installed: pip install "
            f"{self.install}, or choose one of: {others}."
        )

    def zero_point_bits(self, bits: int, symmetric: bool) -> int:
        """Bits that one group's zero point takes: none on a symmetric grid (nor at 1 bit, whose levels are ±), as many
        as a code on an asymmetric one, and 16 where zero points are fractions."""
        if bits == DROPPED:
            return 0
        if self.real_zeros:
            return REAL_ZERO_BITS
        return 0 if symmetric or bits == 1 else bits


_PACKAGE = __name__.rpartition(".")[0]
QUANTIZERS: dict[str, QuantizerKind] = {
    kind.name: kind
    for kind in (
        QuantizerKind(
            "rtn",
            "Round to nearest",
            "The paper's: each group of weights is scaled and rounded, with a search for the best clipping.",
            "the weights: round to nearest with the paper's clip search",
            "none (symmetric), or as wide as a code",
            f"{_PACKAGE}.grids:quantize",
        ),
        QuantizerKind(
            "hqq",
            "HQQ",
            "Half-quadratic quantization by the hqq package: data-free, always with zero points.",
            "the weights: half-quadratic optimum of the zero point",
            "fractions in float16: 2 bytes a group, whatever is asked",
            f"{_PACKAGE}.hqq:hqq",
            package="hqq",
            install="hqq==0.2.8.post1",
            real_zeros=True,
        ),
        QuantizerKind(
            "gptq",
            "GPTQ",
            "Second order: each expert is rounded with the tokens that its router sends it; experts with too few "
            "tokens are rounded to nearest, counted and named. Slower, and it looks at the calibration samples.",
            "the tokens that the router gave each expert (own solver)",
            "as `rtn`",
            needs_samples=True,
        ),
    )
}
DATA_FREE = "rtn"  # the default, and what stands in where a quantizer that needs tokens has too few


def quantizer_kind(name: str) -> QuantizerKind:
    """One of `QUANTIZERS`.

    Raises:
        SettingsError: there is none of that name; with those that there are.
    """
    if name not in QUANTIZERS:
        raise SettingsError(f"There is no quantizer {name!r} here; choose one of: {', '.join(QUANTIZERS)}.")
    return QUANTIZERS[name]
