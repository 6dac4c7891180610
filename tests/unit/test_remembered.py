"""What is kept for the process is kept by its key alone, and no more of it than was said."""

from __future__ import annotations

import pytest

from dashboard.state.remembered import remembered


def test_a_result_is_made_once_for_a_key_whatever_object_it_names():
    made = []

    @remembered(2)
    def doubled(key, of, factor=1):
        made.append(key)
        return [of * 2 * factor]

    first = doubled("a", [1])  # a list cannot be hashed, and is not
    assert doubled("a", [2]) is first and made == ["a"]
    assert doubled("a", [1], 2) == [[1, 1, 1, 1]] and made == ["a", "a"]
    doubled("b", [1])
    doubled("a", [1])  # the oldest of two went
    assert made == ["a", "a", "b", "a"]


def test_a_refusal_is_not_kept():
    tries = []

    @remembered(4)
    def refuse(key, of):
        tries.append(key)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            refuse("a", None)
    assert len(tries) == 2
