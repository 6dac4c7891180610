"""Ranks to bins against the definition of key tokens, and which text positions ask."""

import numpy as np
import pytest
import torch

from mode_core.calibration import redundancy_bins
from mode_core.models import Encoded
from mode_core.probing.redundancy import bins_at, query_positions


@pytest.mark.parametrize("first", range(1, 301, 50))
def test_bins_below_a_percentage_are_the_key_tokens_of_that_ratio(first: int):
    """For every N up to 300 and every whole percentage: exactly the max(1, floor(κ·N/100)) best ranks."""
    for count in range(first, first + 50):
        bins = bins_at(torch.arange(count), torch.tensor(count)).numpy()
        for percent in range(1, 101):
            wanted = max(1, percent * count // 100)
            assert (np.flatnonzero(bins < percent) == np.arange(wanted)).all(), (count, percent)


def test_bins_by_hand():
    assert bins_at(torch.arange(1), torch.tensor(1)).tolist() == [0]
    assert bins_at(torch.arange(4), torch.tensor(4)).tolist() == [0, 49, 74, 99]
    assert bins_at(torch.arange(200), torch.tensor(200)).tolist()[:5] == [0, 0, 1, 1, 2]
    assert bins_at(torch.arange(0), torch.tensor(0)).tolist() == []


def test_ranks_are_within_each_sample_and_ties_go_to_the_earlier_position():
    modality = torch.tensor([[1, 2, 2, 2, 2, 0], [2, 1, 2, 0, 0, 0]], dtype=torch.int8)
    scores = torch.tensor([[9.0, 0.5, 0.7, 0.5, 0.1, 9.0], [0.2, 9.0, 0.2, 9.0, 9.0, 9.0]])
    bins = redundancy_bins(scores, modality)
    assert bins.tolist() == [[-1, 49, 0, 74, 99, -1], [0, -1, 99, -1, -1, -1]]


def encoded(modality, special, template) -> Encoded:
    rows = [torch.tensor([row]) for row in (modality, special, template)]
    empty = torch.zeros_like(rows[1], dtype=torch.bool)
    return Encoded({}, rows[0].to(torch.int8), rows[1].bool(), rows[2].bool(), empty, ("a",))


@pytest.mark.parametrize(
    ("modality", "special", "template", "expected"),
    [
        # role, before, image, image, special, word, word, line end, padding
        ([1, 1, 2, 2, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 1, 0], [5, 6]),
        # all words come before the image: special tokens go, the template stays
        ([1, 1, 2, 1, 1], [0, 0, 0, 1, 0], [1, 0, 0, 1, 1], [4]),
        # nothing but special tokens after the image: they stay
        ([1, 1, 2, 1, 0], [0, 0, 0, 1, 0], [1, 0, 0, 1, 0], [3]),
        # the image ends the sample: words before it are asked
        ([1, 1, 2, 2], [1, 0, 0, 0], [1, 0, 0, 0], [1]),
        # no picture, no question to ask of it
        ([1, 1, 1], [0, 0, 0], [0, 0, 0], []),
    ],
)
def test_query_positions(modality, special, template, expected):
    assert torch.nonzero(query_positions(encoded(modality, special, template))[0]).ravel().tolist() == expected
