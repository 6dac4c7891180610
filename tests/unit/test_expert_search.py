"""Search by word and by token: counted by hand in made-up exemplars and routes."""

from __future__ import annotations

import numpy as np

from mode_core.runs.expert_search import Hit, by_token, by_word
from mode_core.runs.token_routes import TokenRoutes
from mode_core.statistics.exemplars import ENTRY, Exemplars, sample_key


def made_exemplars() -> Exemplars:
    """Bank x: expert 0 has "circle" twice, expert 1 once as the two tokens' second half, expert 2 another word."""
    found = Exemplars.empty({"x": 3}, 2)
    entries = {(0, 0): ("a ", "Circle", " ."), (0, 1): ("one ", "circle", ""), (1, 0): ("a cir", "cle", " ."),
               (2, 0): ("a circle ", "square", "")}  # fmt: skip
    for number, ((expert, place), words) in enumerate(entries.items()):
        window = np.full(13, number, "<i4")
        found.tables["x"][0, expert, place] = np.array(
            (0.5 - 0.1 * place, False, sample_key("s"), 1, -1, 7, window), ENTRY
        )
        found.snippets[window.tobytes()] = words
    found.samples = {sample_key("s"): {"id": "s", "grids": None}}
    return found


def made_routes() -> TokenRoutes:
    """ "cir" "cle", a patch, "circle": top-1 in bank x."""
    words = ("cir", "cle", "", "circle")
    experts, vision = np.array([[[2], [2], [0], [1]]], np.uint8), np.array([False, False, True, False])
    weights = np.array([[[0.25], [0.5], [1.0], [0.75]]], np.float16)
    return TokenRoutes("s", ("x",), (3,), 4, words, vision, ~vision, experts, weights, np.zeros((1, 4), np.float16))


def test_a_word_ranks_by_exemplars_then_kept_tokens():
    found = by_word(" CIRCLE ", made_exemplars(), [made_routes()])
    first, second, third = found.hits
    assert (first.bank, first.expert, first.exemplars, first.kept, first.example) == ("x", 0, 2, 0, "a Circle .")
    np.testing.assert_allclose(first.weight, 0.9, rtol=1e-6)
    assert (second.expert, second.exemplars, second.kept) == (1, 1, 1)
    np.testing.assert_allclose(second.weight, 0.5 + 0.75, rtol=1e-6)
    assert third == Hit("x", 2, 0, 2, 0.75, "") and found.tokens == 3


def test_what_is_not_there_leads_nowhere():
    assert by_word("triangle", made_exemplars(), [made_routes()]).hits == () == by_word("  ", made_exemplars()).hits
    assert by_word("lecir", None, [made_routes()]).tokens == 0  # not over the picture
    assert [hit.expert for hit in by_word("square", made_exemplars()).hits] == [2]


def test_a_patch_leads_where_it_was_sent():
    assert by_token(made_routes(), 2).hits == (Hit("x", 0, 0, 1, 1.0, ""),)
