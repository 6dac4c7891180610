"""Tokens that two experts share, counted by hand."""

from __future__ import annotations

import numpy as np
from mode_core.runs.expert_pairs import used_together

from mode_core.runs.token_routes import TokenRoutes


def routes(chosen: list[list[int]], weights: list[list[float]], bank: str = "a") -> TokenRoutes:
    tokens = len(chosen)
    flags = np.zeros(tokens, bool)
    words = tuple("w" * tokens)
    held = np.array([chosen], np.uint8), np.array([weights], np.float16)
    return TokenRoutes("s", (bank,), (3,), tokens, words, flags, flags, *held, np.zeros((1, tokens), np.float16))


def test_pairs_by_hand():
    first = routes([[0, 1], [1, 0], [2, 1]], [[0.6, 0.4], [0.9, 0.1], [1.0, 0.0]])  # the last token: expert 2 alone
    second = routes([[0, 2]], [[0.5, 0.5]])
    both, tokens = used_together([first, second, routes([[0, 1]], [[1, 1]], "b")], "a", 3)
    assert both.tolist() == [[3, 2, 1], [2, 2, 0], [1, 0, 2]] and tokens == 4
