"""Router rows come out of the files as the model has them, and likeness is the cosine worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mode_core.models.errors import ModelError
from mode_core.models.router_rows import alike, router_rows


def test_likeness_by_hand():
    rows = np.array([[3.0, 1], [5, 1], [4, 2], [4, 0]])  # mean (4, 1): left, right, up, down of it
    expected = [[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]]
    assert alike(rows) == pytest.approx(np.array(expected))
    assert alike(rows + np.array([100, -7])) == pytest.approx(np.array(expected))  # what all share changes no choice
    assert np.isnan(alike(np.array([[1.0, 0], [3, 0], [2, 0]]))[2]).all()  # the mean itself has no direction


def test_rows_are_those_of_the_loaded_model(tiny_model, tiny_model_folder):
    for name, bank in tiny_model.banks.items():
        router = tiny_model.model.get_submodule(name.rpartition(".")[0]).gate
        read = router_rows(tiny_model_folder, name, bank.experts, 64)
        np.testing.assert_array_equal(read, router.weight.detach().float().numpy())


def test_a_bank_without_a_router_in_the_files_is_named(tiny_model_folder):
    with pytest.raises(ModelError, match=r"no tensors could be the router of model\.layers\.99\.mlp\.experts"):
        router_rows(tiny_model_folder, "model.layers.99.mlp.experts", 8, 64)
