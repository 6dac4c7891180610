"""Use by task: strips against sums made from the statistics by another way, and what they say."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.charts import use_by_task
from tests.synthetic import synthetic_statistics

FEW = {"colour": np.array([30, 10, 0, 0]), "count": np.array([0, 10, 30, 0]), "<b>rare": np.array([1, 0, 0, 1])}


def test_strips_are_loads_and_all_tasks_together_are_the_bank_itself():
    statistics = synthetic_statistics(2, 9, tasks=4, unsupported=1)
    bank = list(statistics)[1]
    order = np.argsort(-bank.text_selections)
    figure = use_by_task({task: held[1, 0] for task, held in statistics.by_task.items()}, "text", "1", order, 2)
    strips = figure.data[0]
    shares = bank.text_selections / bank.text_selections.sum()
    np.testing.assert_allclose(strips.text[0], 9 * shares[order], rtol=1e-6)
    np.testing.assert_array_equal(strips.hovertext[1:].sum(axis=0), bank.text_selections[order])
    sums = strips.hovertext[1:].sum(axis=1)
    assert list(sums) == sorted(sums, reverse=True)
    np.testing.assert_allclose(2.0 ** np.asarray(strips.z, float)[:, :-1], strips.text[:, :-1], rtol=1e-4, atol=2e-5)
    assert list(order[[figure.layout.meta["at"][1]]]) == [2] and list(strips.customdata[1]) == list(order)


def test_few_tokens_are_veiled_and_not_talked_about():
    figure = use_by_task(FEW, "vision", "7", None, 1)
    names = [note["text"] for note in figure.layout.annotations]
    assert names[0].startswith("<b>All tasks together</b> · 82 selections") and "too few" not in names[0]
    assert names[3] == "<b>&lt;b&gt;rare</b> · 2 selections, too few to tell"
    veil = np.isfinite(np.asarray(figure.data[1].z, float)).all(axis=1)
    assert list(veil) == [False, False, False, True]
    told = figure.layout.meta[
        "summary"
    ]  # 40 of colour's 40 against 41 of 82; expert 0: 3.0 − 1.51, expert 2: 3.0 − 1.46
    assert told.startswith(
        "Furthest from the others: count uses expert 2 at 3.0× an even share, all tasks together at 1.5"
    )
    assert "1 of 3 tasks have too few vision tokens to tell (veiled)" in told
    bar = figure.layout.coloraxis.colorbar
    assert bar.ticktext[0].startswith("≤ ") and figure.layout.coloraxis.cmax == -figure.layout.coloraxis.cmin


@pytest.mark.parametrize("counts", [{"": np.array([3, 1])}, {"a": np.array([1, 0]), "b": np.array([0, 1])}])
def test_nothing_is_claimed_of_too_few(counts):
    figure = use_by_task(counts, "text", "0")
    assert figure.layout.meta["summary"] == "No task has enough text tokens to tell."
