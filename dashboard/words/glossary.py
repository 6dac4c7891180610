"""Every term of the screen in plain words, once: `explain("key ratio")` is what tooltips and the glossary show."""

from __future__ import annotations

from mode_core.importance import METHODS
from mode_core.importance.methods import GROUPS
from mode_core.probing.signals import NO_SIGNAL, SIGNALS
from mode_core.quantization.quantizers import QUANTIZERS

TERMS: dict[str, str] = {
    "expert": "One of many small feed-forward networks that stand side by side in a layer. A token visits only a few "
    "of them, so most of a model's weights lie idle at any moment, yet all of them take memory.",
    "expert bank": "All experts of one Mixture-of-Experts layer, with the router that chooses among them.",
    "router": "A small linear layer that scores every expert for a token and sends the token to the best k of them.",
    "top-k": "How many experts each token visits in one layer.",
    "routing weight": "How strongly the router wants an expert for a token: the factor on the expert's output.",
    "router entropy": "How undecided a router is about a token, over all experts of the layer, in bits: 0 where "
    "one has all of its shares, log₂ of their number where all have the same.",
    "text token": "Every token that is not a picture's or a sound's: the question, the answer, and the chat template "
    "around them.",
    "vision token": "One patch of a picture as the language model sees it.",
    "audio token": "A short span of a sound as the language model hears it; ranked into key and redundant ones as "
    "vision tokens are, among themselves.",
    "key token": "A vision token that the model's text looks at most: one of the best-ranked share of a picture's "
    "tokens, the key ratio. Ranked per sample and per layer.",
    "redundant token": "A vision token that is not key: mostly background, or much like others.",
    "key ratio": "The share of each picture's vision tokens that count as key, per layer; the rest are redundant. "
    "The paper takes 20 %. The model is not run again when it changes.",
    "redundancy signal": "What ranks the vision tokens of a picture from key to redundant. The paper's: how much "
    "attention the text pays to each of them, in the same layer.",
    "frequency": "Share of a bank's top-k selections that fall on an expert; over a bank the shares sum to 1.",
    "aggregate frequency": "Frequency over all tokens counted together. Vision tokens outnumber text tokens, so what "
    "text needs is outvoted.",
    "denoised frequency": "Frequency over key vision tokens only: what is left when redundant ones are not counted.",
    "load": "Share times the number of experts: 1 is an even share, 3 is three times as much.",
    "starved expert": "An expert among the busiest for text that counting all tokens puts into the lower half, and so "
    "would get few bits.",
    "specialisation": "How much more of the text an expert takes than of the key vision tokens, or the other way.",
    "divergence": "Jensen–Shannon divergence between two kinds of token over the experts of a bank, in bits: "
    "0 where they use experts alike, 1 where they share none.",
    "sensitivity": "Damage that quantizing this expert alone does to the tokens that visit it: mean squared error of "
    "its output, per dimension.",
    "bit-width": "Bits that each weight of an expert is stored in. Fewer bits: less memory, more rounding error.",
    "quantizer": "What turns weights into codes of few bits: it chooses the scales, and which code each weight gets.",
    "group size": "How many neighbouring weights share one scale (and zero point) when they are rounded.",
    "average bits": "Mean bit-width over all experts' weights: the budget.",
    "importance": "What an expert is worth: how often it is used times how much it would be hurt, by a method's name.",
    "vision weight": "α: how much damage to key vision tokens counts beside damage to text tokens. The paper takes 1.",
    "audio weight": "β: the same for key audio tokens, in runs that heard sounds. It is ours, and 1 like α, so that no "
    "kind of token outvotes another.",
    "shrinkage": "How far every expert's cost is drawn to the mean of its layer: 0 keeps the estimate as it is, 1 "
    "makes all experts of a layer alike. An insurance against questions that the calibration samples did not hold.",
    "scope": "Whether every layer keeps the budget by itself, as in the paper, or layers may lend bits to each other.",
    "unit": "What shares one bit-width: each expert, each projection of a layer, or a whole layer. Serving engines "
    "want coarse units; the allocation is solved again for them.",
    "integer program": "The choice of one bit-width for every expert that does the least predicted damage within the "
    "budget, found exactly and proven.",
    "predicted damage": "Sum of the chosen costs: an estimate from calibration, in the method's own unit.",
    "uniform": "The same bit-width for every expert.",
    "calibration sample": "One question, with its pictures, that the model reads while experts are being watched.",
    "calibration": "Running the model over samples once, to count selections and measure sensitivity.",
    "fold": "One of eight parts of the calibration samples. Leaving one out shows what other samples would have said.",
    "interval": "Where the value would probably lie with other samples of the same kind: 95 % unless said otherwise.",
    "Jaccard overlap": "Size of what two sets share, divided by the size of both together: 1 if equal, 0 if disjoint.",
    "rank correlation": "Spearman's: 1 where two orders agree, 0 where they have nothing to do with each other.",
    "KL divergence": "How far the quantized model's next-token probabilities are from the original's, in nats; 0 is "
    "the same.",
    "agreement": "Share of positions where the quantized model's most probable token is the original's.",
    "exact solver": "A solver that also gives a lower bound; where bound and result meet, nothing better exists.",
}


def terms() -> dict[str, str]:
    """Every term with its meaning: the general ones, and each method, signal and quantizer by its title."""
    chosen = {one.title: f"{one.description} ({GROUPS[one.group].capitalize()}.)" for one in METHODS.values()}
    chosen |= {one.title: f"A redundancy signal: {one.score}." for one in (*SIGNALS.values(), NO_SIGNAL)}
    return TERMS | chosen | {kind.title: kind.words for kind in QUANTIZERS.values()}


def explain(*terms: str) -> str:
    """What the terms mean, one paragraph each; with several, each begins with its name.

    Raises:
        KeyError: a term that the glossary does not hold.
    """
    if len(terms) == 1:
        return TERMS[terms[0]]
    return "\n\n".join(f"**{term}**: {TERMS[term]}" for term in terms)


def found(part: str) -> dict[str, str]:
    """Terms whose name or meaning holds these letters, in order of their names; all of them for an empty `part`."""
    part = part.casefold().strip()
    named = {term: said for term, said in terms().items() if part in term.casefold() or part in said.casefold()}
    return dict(sorted(named.items(), key=lambda pair: pair[0].casefold()))
