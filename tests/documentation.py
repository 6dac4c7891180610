"""Tables of the READMEs that the code's own tables say: `python -m tests.documentation` writes them, a test compares.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mode_core.export import TARGETS
from mode_core.importance import METHODS
from mode_core.importance.methods import GROUPS, NEEDS
from mode_core.probing.signals import NO_SIGNAL, SIGNALS
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.widths import UNTOUCHED, WIDTHS

ROOT = Path(__file__).resolve().parents[1]
UNITS = {
    "layer": "layer",
    "projection": "layer × projection",
    "expert": "expert",
    "expert_projection": "expert × projection",
}
PROVEN_BY = {  # target -> files of tests/unit/export, or with their folder
    "auto_round": ("test_auto_round.py", "test_auto_round_families.py"),
    "dequantized": ("test_dequantized.py", "test_original_form.py", "test_checkpoint.py"),
    "pruned": ("test_pruned.py",),
    "gptqmodel": ("test_gptqmodel.py", "tests/parity/test_gptqmodel.py"),
    "compressed_tensors": ("test_compressed_tensors.py",),
    "mlx": ("test_mlx.py", "tests/parity/test_mlx_vlm.py"),
    "compressed_tensors_expert": ("test_compressed_tensors.py",),
    "gguf": ("test_gguf_file.py", "test_gguf_families.py", "test_gguf_choice.py"),
    "auto_round_recipe": ("test_recipes.py", "tests/parity/test_auto_round_recipe.py"),
    "gptqmodel_config": ("test_gptqmodel.py", "tests/parity/test_gptqmodel.py"),
    "llm_compressor_recipe": ("test_recipes.py", "tests/parity/test_llm_compressor.py"),
    "gguf_script": ("test_gguf.py", "tests/parity/test_llama_quantize.py"),
    "exllamav3_recipe": ("test_exllamav3.py",),
    "exllamav3_recipe_expert": ("test_exllamav3.py",),
    "mlx_config": ("test_mlx.py",),
    "imatrix": ("test_imatrix.py", "tests/parity/test_llama_quantize.py"),
    "expert_bits": ("test_export.py",),
    "table": ("test_export.py",),
}
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


def targets() -> Iterator[Sequence[str]]:
    """What can be written, how fine its bits are, and how it was proven."""
    yield "target", "finest unit", "widths", "proof", "tests"
    for target in TARGETS.values():
        tests = ", ".join(f"`{file}`" for file in PROVEN_BY[target.name])
        yield f"`{target.name}`", UNITS[target.finest_unit], widths(target.widths), target.proof, tests


def widths(offered: Sequence[int]) -> str:
    """`(2, 3, 4, 8, 16)` → `2–4, 8`; 16, left as it was, goes everywhere."""
    given = sorted(set(offered) - {UNTOUCHED})
    if set(given) >= set(WIDTHS):
        return "all" if 0 in given else "all but 0"
    runs: list[list[int]] = []
    for width in given:
        if runs and width == runs[-1][-1] + 1:
            runs[-1].append(width)
        else:
            runs.append([width])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


TABLES = {
    "methods": (methods, "mode_core/importance/README.md"),
    "signals": (signals, "mode_core/calibration/README.md"),
    "quantizers": (quantizers, "mode_core/quantization/README.md"),
    "targets": (targets, "mode_core/export/README.md"),
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
