"""Every signal against a slow direct computation, token by token."""

import pytest
import torch

from mode_core.calibration import SIGNALS
from mode_core.probing.signals import duplication as duplication_module
from mode_core.probing.signals.base import SignalInput

MODALITY = torch.tensor([[1, 2, 2, 2, 2, 1, 1, 1, 0], [1, 1, 2, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0]])
QUERY = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0, 0, 0, 0], [0] * 9]).bool()


@pytest.fixture
def view() -> SignalInput:
    torch.manual_seed(4)
    return SignalInput(MODALITY.to(torch.int8), QUERY, torch.randn(3, 9, 6))


def cosine(a, b) -> float:
    return float(torch.dot(a, b) / a.norm() / b.norm())


@pytest.mark.parametrize("name", ["text_attention", "judge_layer_attention"])
def test_text_rows_weigh_alike(view, name):
    weights = SIGNALS[name].measure.row_weights(view)
    expected = torch.zeros(3, 9)
    expected[0, 5:8], expected[1, 3:5] = 1 / 3, 1 / 2
    assert torch.allclose(weights, expected)


def test_raters_are_the_text_that_relates_more_than_the_mean(view):
    weights = SIGNALS["rater_attention"].measure.row_weights(view)
    for row in (0, 1):
        vision, text = torch.nonzero(MODALITY[row] == 2).ravel(), torch.nonzero(QUERY[row]).ravel()
        relevance = dict.fromkeys(text.tolist(), 0.0)
        for v in vision:
            exponents = [torch.exp(torch.dot(view.features[row, v], view.features[row, t])).item() for t in text]
            for t, exponent in zip(text.tolist(), exponents, strict=True):
                relevance[t] += exponent / sum(exponents) / len(vision)
        mean = sum(relevance.values()) / len(relevance)
        raters = [t for t, value in relevance.items() if value > mean]
        assert torch.nonzero(weights[row]).ravel().tolist() == raters
        assert weights[row].sum() == pytest.approx(1)
    assert not weights[2].any()


def test_equally_related_text_are_all_raters(view):
    view.features[0, 5:8] = view.features[0, 5]
    assert torch.nonzero(SIGNALS["rater_attention"].measure.row_weights(view)[0]).ravel().tolist() == [5, 6, 7]


@pytest.mark.parametrize("rows", [1, 3, 1024])
def test_duplication_is_one_minus_the_nearest_similarity(view, monkeypatch, rows):
    monkeypatch.setattr(duplication_module, "ROWS", rows)
    scores = SIGNALS["duplication"].measure.scores(view)
    for j in range(1, 5):
        others = [cosine(view.features[0, j], view.features[0, i]) for i in range(1, 5) if i != j]
        assert scores[0, j].item() == pytest.approx(1 - max(others), abs=1e-5)
    assert scores[1, 2] == 1  # a lone vision token has no double
    assert not scores[MODALITY != 2].any()


def test_diversity_takes_the_farthest_token_next(view):
    torch.manual_seed(5)
    count = 12
    modality, features = torch.full((1, count), 2, dtype=torch.int8), torch.randn(1, count, 5)
    view = SignalInput(modality, torch.zeros(1, count).bool(), features)
    distance = [[1 - cosine(a, b) for b in view.features[0]] for a in view.features[0]]
    nearest = [min(d for i, d in enumerate(row) if i != j) for j, row in enumerate(distance)]
    taken = [nearest.index(max(nearest))]
    while len(taken) < count:
        left = [j for j in range(count) if j not in taken]
        taken.append(max(left, key=lambda j: min(distance[j][t] for t in taken)))
    scores = SIGNALS["diversity"].measure.scores(view)[0]
    assert scores.argsort(descending=True).tolist() == taken


def test_identical_tokens_are_still_each_taken_once(view):
    view.features[0, 1:5] = view.features[0, 1]
    scores = SIGNALS["diversity"].measure.scores(view)[0, 1:5]
    assert sorted(scores.tolist()) == [-3, -2, -1, 0]
