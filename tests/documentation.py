"""Tables of the READMEs that the code's own tables say: `python -m tests.documentation` writes them, a test compares.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mode_core.importance import METHODS
from mode_core.importance.methods import GROUPS, NEEDS
from mode_core.probing.signals import NO_SIGNAL, SIGNALS
from mode_core.quantization.quantizers import QUANTIZERS

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def methods() -> Iterator[Sequence[str]]:
    """What every importance estimate computes, needs, and is compared by."""
    yield "name", "group", "cost of expert e at b bits", "needs", "comparable across banks", "scope", "source"
    for method in sorted(METHODS.values(), key=lambda method: list(GROUPS).index(method.group)):
        needs = f"`{NEEDS[method.needs].flag.split()[0]}`" if method.needs else "–"
        comparable = "yes" if method.comparable else "no"
        yield f"`{method.name}`", method.group, method.formula, needs, comparable, method.scopes[0], method.source


def signals() -> Iterator[Sequence[str]]:
    """What ranks the vision tokens."""
    yield "signal", "on the screen", "higher, and kept first:", "source"
    for signal in (*SIGNALS.values(), NO_SIGNAL):
        yield f"`{signal.name}`", signal.title, signal.score, signal.source


def quantizers() -> Iterator[Sequence[str]]:
    """What rounds the weights."""
    yield "quantizer", "looks at", "zero points", "needs"
    for kind in QUANTIZERS.values():
        needs = (
            "calibration samples" if kind.needs_samples else f"the package `{kind.package}`" if kind.package else "–"
        )
        yield f"`{kind.name}`", kind.looks_at, kind.zero_points, needs


TABLES = {
    "methods": (methods, "mode_core/importance/README.md"),
    "signals": (signals, "mode_core/calibration/README.md"),
    "quantizers": (quantizers, "mode_core/quantization/README.md"),
}


def markdown(name: str) -> str:
    """One table as the README shows it."""
    head, *rows = TABLES[name][0]()
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def written(path: Path) -> str:
    """A README with its tables as they should be."""
    return PLACE.sub(lambda found: found[1] + markdown(found[2]) + found[3], path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for _, file in TABLES.values():
        (ROOT / file).write_text(written(ROOT / file), encoding="utf-8")
