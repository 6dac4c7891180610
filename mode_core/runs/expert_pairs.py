"""Which experts of a bank work on the same tokens, counted in the samples whose routes a run keeps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mode_core.runs.token_routes import TokenRoutes


def used_together(routes: Iterable[TokenRoutes], bank: str, experts: int) -> tuple[np.ndarray, int]:
    """Kept tokens that were sent to both of two experts, int `[E, E]` (the diagonal: to that expert at all), and how
    many tokens the bank saw. Symmetric."""
    both, tokens = np.zeros((experts, experts), int), 0
    for one in routes:
        if bank not in one.banks:
            continue
        at = one.banks.index(bank)
        sent = np.zeros((len(one.words), experts), int)
        rows, places = np.nonzero(one.weights[at] > 0)
        sent[rows, one.experts[at][rows, places]] = 1
        both += sent.T @ sent
        tokens += int(sent.any(axis=1).sum())
    return both, tokens
