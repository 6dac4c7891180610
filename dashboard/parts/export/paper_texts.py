"""What a paper needs beside figures: tables, references, a paragraph that states the settings. No Streamlit here."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from dashboard.components.chart import in_words
from dashboard.words import names
from mode_core.allocation import Allocation
from mode_core.importance import METHODS
from mode_core.probing.signals import SIGNALS
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.widths import UNTOUCHED
from mode_core.request import AllocationRequest, Quantizer
from mode_core.statistics import ExpertStatistics

_ARXIV = re.compile(r"(?:([A-Z][\w -]*), )?arXiv (\d{4}\.\d{4,5})")
_ESCAPED = {char: f"\\{char}" for char in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_ESCAPED |= {"\\": r"\textbackslash{}", "λ": r"$\lambda$", "α": r"$\alpha$", "×": r"$\times$", "−": "$-$", "–": "--"}
_SHARES = {
    "expert": "each expert has one",
    "expert_projection": "gate and up, and down, of each expert have one each",
    "projection": "gate and up, and down, of each layer's experts have one each",
    "layer": "each layer's experts share one",
}


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_ESCAPED.get(char, char) for char in text)


def table(rows: pd.DataFrame, caption: str, label: str) -> str:
    """A table environment with booktabs' rules; names of methods in words, numbers to five places."""
    told = in_words(rows).round(5)
    texts = told.map(lambda cell: escaped(cell) if isinstance(cell, str) else cell)
    texts.columns = [escaped(str(name)) for name in told.columns]
    return texts.to_latex(index=False, na_rep="--", caption=escaped(caption), label=f"tab:{label}", float_format="%.5g")


def cited(methods: Iterable[str], signal: str) -> dict[str, str]:
    """arXiv number → what our records call it: MODE's own, and those behind these methods and the signal."""
    sources = [METHODS["mode"].source, *(METHODS[name].source for name in methods if name in METHODS)]
    sources += [SIGNALS[signal].source] if signal in SIGNALS else []
    found: dict[str, str] = {}
    for source in sources:
        for title, number in _ARXIV.findall(source):
            found.setdefault(number, title or source)
    return found


def bibtex(sources: dict[str, str]) -> str:
    """One entry for each; titles are the short names known here, authors are not known here and stand on the page."""
    note = "title as called in the MODE dashboard; take authors and full title from the address"
    return "\n".join(
        f"@misc{{arxiv:{number},\n  title = {{{{{escaped(title)}}}}},\n  eprint = {{{number}}},\n"
        f"  archivePrefix = {{arXiv}},\n  url = {{https://arxiv.org/abs/{number}}},\n  note = {{{note}}}\n}}\n"
        for number, title in sources.items()
    )


def methods_paragraph(
    asked: AllocationRequest, quantizer: Quantizer, found: Allocation, statistics: ExpertStatistics
) -> str:
    """How the bits came about, every setting in words, as LaTeX."""
    method, kind = METHODS[asked.method], QUANTIZERS[quantizer.method]
    cites = ",".join(f"arxiv:{number}" for number in cited([asked.method], asked.signal))
    told = {
        "key_ratio": f"Key vision tokens are the best {100 * asked.key_ratio:g} % of each sample's vision tokens in "
        f"each layer by {names.short_signal(asked.signal)}.",
        "vision_weight": f"Vision is weighed {asked.vision_weight:g} against text.",
    }
    few = min(asked.widths)
    parts = [
        f"Bit-widths of the routed experts were chosen by {method.title}: {method.description}",
        *(words for name, words in told.items() if name in method.follows),
        f"Costs were measured on {len(statistics.samples)} calibration samples, each expert's weights rounded alone"
        f" to {', '.join(map(str, statistics.bits))} bits.",
        f"They were drawn by {asked.shrinkage:g} of the way to the mean of their bank." * (asked.shrinkage > 0),
        f"Experts that fewer than {asked.min_support} token{'s' * (asked.min_support != 1)} reached take the error of "
        "their weights in place of a measured one." * (asked.min_support > 0),
        f"Allowed widths are {', '.join(map(str, asked.widths))} bits; {_SHARES[asked.unit]};"
        f" the budget is {_budget(asked, found)} {'per bank' if asked.scope == 'bank' else 'for all banks together'}"
        f"{', spent exactly' if asked.equality else ', as an upper bound'}.",
        *_counts(asked),
        f"{len(asked.pins)} expert{'s' * (len(asked.pins) != 1)} had a width set by hand." * bool(asked.pins),
        "The integer programme was solved to proven optimality."
        if found.proven_optimal
        else "The solution was not proven optimal for these costs.",
        f"Weights are quantized by {kind.title} ({kind.looks_at}), "
        f"{'a whole row' if quantizer.group_size == -1 else f'{quantizer.group_size} input channels'} to a scale, on "
        f"{'a symmetric' if quantizer.symmetric else 'an asymmetric'} grid; attention has "
        f"{_width(quantizer.attention_bits)}, shared experts have {_width(quantizer.shared_bits)}.",
        "Widths of 0 bits leave the expert out." * (few == 0),
    ]
    return f"{escaped(' '.join(part for part in parts if part))} \\cite{{{cites}}}\n"


def _width(bits: int | None) -> str:
    return "16 bits (untouched)" if bits in (None, UNTOUCHED) else f"{bits} bits"


def _budget(asked: AllocationRequest, found: Allocation) -> str:
    mean = f"{found.average_bits:.3f} bits on average over the experts' weights"
    if asked.measure == "bits":
        return f"{asked.budget:g} bits on average over the experts' weights (reached: {found.average_bits:.3f})"
    what = "all packed experts" if asked.measure == "bytes" else "the whole model"
    return f"{asked.budget / 1e6:,.3f} MB for {what} ({mean})"


def _counts(asked: AllocationRequest) -> Iterable[str]:
    for word, counts in (("least", asked.at_least), ("most", asked.at_most)):
        for width, count in counts:
            yield f"At {word} {count} units have {width} bits."
