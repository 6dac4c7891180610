"""All signals in one pass of a real model, against whole attention matrices and loops over tokens.

The model is the tiny random Qwen3-VL-MoE; the samples have one picture, two pictures in one turn, several turns, and
none. What is direct here is computed with Python loops from the model's own eager attention `[heads, L, L]` and from
what enters its first decoder layer.
"""

import math

import numpy as np
import pytest
import torch

from mode_core.calibration import SIGNALS, redundancy_bins
from mode_core.models import TEXT, VISION
from mode_core.probing.probe import Probe
from mode_core.probing.redundancy import query_positions
from mode_core.samples import Sample

JUDGE = 2  # decoder layer that judge_layer_attention looks at; the tiny model has three


@pytest.fixture(scope="module")
def samples(tiny_samples):
    """One picture; two pictures in one turn; pictures in two turns with an answer between; text only."""
    first, second = tiny_samples[3].images[0], tiny_samples[1].images[0]
    turns = (
        {"role": "user", "content": "<image>what is it ?"},
        {"role": "assistant", "content": "a red circle"},
        {"role": "user", "content": "is <image> a circle ?"},
    )
    both = ({"role": "user", "content": "<image><image>is it the green ?"},)
    return [
        tiny_samples[0],
        Sample((first, second), both, id="two"),
        Sample((second, first), turns, id="turns"),
        tiny_samples[-1],
    ]


@pytest.fixture(scope="module")
def measured(tiny_model, samples):
    """Every signal's importance by layer, in one batch and one pass."""
    found, encoded = {}, tiny_model.encode(samples)
    with Probe(tiny_model, tuple(SIGNALS), lambda seen: found.update({seen.bank.layer: seen.importance})) as probe:
        probe.run(encoded)
    return encoded, found


@pytest.fixture(scope="module")
def whole(tiny_model, samples):
    """Each sample alone, without padding: (ids, attention by layer `[heads, L, L]`, features `[L, H]`)."""
    config, entering, each = tiny_model.model.config.get_text_config(), [], []
    before = config._attn_implementation
    decoder = tiny_model.model.model.language_model
    hook = decoder.register_forward_pre_hook(lambda _m, _a, kw: entering.append(kw["inputs_embeds"]), with_kwargs=True)
    config._attn_implementation = "eager"
    try:
        for sample in samples:
            encoded = tiny_model.encode([sample])
            with torch.no_grad():
                output = tiny_model.model(**encoded.inputs, output_attentions=True)
            each.append((encoded, [a[0] for a in output.attentions], entering[-1][0]))
    finally:
        hook.remove()
        config._attn_implementation = before
    return each


def asked(model, encoded, sample) -> list[int]:
    """The rows Q by what stands there: words that a person wrote after the first vision token (all samples have some
    such words, so none of the three filters is ever skipped)."""
    ids, written = encoded.inputs["input_ids"][0].tolist(), " ".join(sample.texts).split()
    words = model.processor.tokenizer.convert_ids_to_tokens(ids)
    first = next((n for n, i in enumerate(ids) if i in model.vision_ids), len(ids))
    roles = {"system", "user", "assistant"}
    return [n for n, w in enumerate(words) if n > first and w in written and w not in roles]


def attention_to(attention, rows, column) -> float:
    """Mean over heads and over the rows of A[h, row, column], one number at a time."""
    heads = attention.shape[0]
    return sum(float(attention[h, i, column]) for h in range(heads) for i in rows) / (heads * len(rows))


def cosine(a, b) -> float:
    return float((a.double() @ b.double()) / (a.double().norm() * b.double().norm()))


def raters(features, vision, rows) -> list[int]:
    """Rows whose softmax(h_v · h_t) over the rows, averaged over the vision tokens, exceeds the mean."""
    relevance = dict.fromkeys(rows, 0.0)
    for v in vision:
        dots = {t: float(features[v].double() @ features[t].double()) for t in rows}
        top = max(dots.values())
        total = sum(math.exp(d - top) for d in dots.values())
        for t in rows:
            relevance[t] += math.exp(dots[t] - top) / total / len(vision)
    mean = sum(relevance.values()) / len(rows)
    return [t for t in rows if relevance[t] > mean]


def farthest_first(features, vision) -> list[int]:
    """Vision tokens in the order of greedy max-min cosine distance."""
    distance = {(a, b): 1 - cosine(features[a], features[b]) for a in vision for b in vision}
    taken = [max(vision, key=lambda a: min(distance[a, b] for b in vision if b != a))]
    while len(taken) < len(vision):
        left = [a for a in vision if a not in taken]
        taken.append(max(left, key=lambda a: min(distance[a, b] for b in taken)))
    return taken


def direct(signal, attentions, features, layer, vision, rows) -> list[float]:
    """One signal's score of every vision token, from its definition."""
    if signal == "duplication":
        return [1 - max(cosine(features[a], features[b]) for b in vision if b != a) for a in vision]
    if signal == "diversity":
        order = farthest_first(features, vision)
        return [-float(order.index(a)) for a in vision]
    if signal == "rater_attention":
        rows = raters(features, vision, rows)
    attention = attentions[JUDGE if signal == "judge_layer_attention" else layer]
    return [attention_to(attention, rows, column) for column in vision]


@pytest.mark.parametrize("signal", SIGNALS)
def test_scores_and_key_sets_of_every_percentage(tiny_model, samples, measured, whole, signal):
    encoded, found = measured
    assert set(found) == {0, 2}
    for layer, importance in found.items():
        bins = redundancy_bins(importance[signal], encoded.modality)
        for row, (sample, (alone, attentions, features)) in enumerate(zip(samples, whole, strict=True)):
            vision = torch.nonzero(alone.modality[0] == VISION).ravel().tolist()
            assert vision == torch.nonzero(encoded.modality[row] == VISION).ravel().tolist()
            if not sample.images:
                assert (bins[row] == -1).all()
                continue
            wanted = direct(signal, attentions, features, layer, vision, asked(tiny_model, alone, sample))
            scores = importance[signal][row, vision].tolist()
            np.testing.assert_allclose(scores, wanted, atol=2e-5)
            check_key_sets(bins[row, vision].numpy(), np.array(wanted))
            assert (bins[row][encoded.modality[row] != VISION] == -1).all()


def check_key_sets(bins, wanted) -> None:
    """At κ % exactly max(1, floor(κ·N/100)) tokens are key, and none outside is clearly better than one inside."""
    count, checked = len(wanted), 0
    for percent in range(1, 101):
        size = max(1, percent * count // 100)
        key = bins < percent
        assert key.sum() == size
        order = np.argsort(-wanted, kind="stable")
        clear = size == count or wanted[order[size - 1]] - wanted[order[size]] > 1e-4
        if clear:
            assert set(np.flatnonzero(key)) == set(order[:size].tolist())
            checked += 1
        else:
            assert wanted[key].min() >= wanted[~key].max() - 1e-4
    assert checked > 5


def test_all_pictures_of_a_sample_are_ranked_together(measured):
    encoded, found = measured
    bins = redundancy_bins(found[0]["text_attention"], encoded.modality)[1]
    vision = encoded.modality[1] == VISION
    assert encoded.grids[1] == ((8, 8), (4, 8)) and int(vision.sum()) == 96
    assert int((bins == 0).sum()) == 1 and int((bins[vision] < 50).sum()) == 48


def test_text_of_every_turn_asks(tiny_model, samples, whole):
    """Words of the later turn and of the answer between stand after the first picture, so they are rows of Q."""
    alone = whole[2][0]
    rows = asked(tiny_model, alone, samples[2])
    assert torch.nonzero(query_positions(alone)[0]).ravel().tolist() == rows
    assert len(rows) == 4 + 3 + 4 and (alone.modality[0, rows] == TEXT).all()
