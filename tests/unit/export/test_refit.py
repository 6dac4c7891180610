"""An allocation solved again at the unit that a target can hold, against trying every choice."""

import dataclasses
import itertools

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.export import TARGETS, ExportError, export
from mode_core.export.refit import costs_of, fit
from mode_core.importance import cost_table
from mode_core.quantization import expert_bytes
from tests.synthetic import synthetic_statistics

STATISTICS = synthetic_statistics(banks=3, experts=8, seed=4)
COSTS = cost_table(STATISTICS, "mode_output")
BY_LAYER = dataclasses.replace(TARGETS["table"], name="by_layer", finest_unit="layer")
WIDTHS = (2, 3, 4)


def best_by_layer(costs, average_bits: float) -> tuple[float, list[int]]:
    """Least summed cost over all 27 ways to give each of the three layers one width within the budget."""
    tables = [costs[bank].sum(axis=0) for bank in costs]
    feasible = [place for place in itertools.product(range(3), repeat=3) if sum(place) + 6 <= 3 * average_bits]
    return min((sum(t[i] for t, i in zip(tables, place, strict=True)), place) for place in feasible)


@pytest.mark.parametrize("average_bits", [2.4, 3.0, 3.7])
def test_one_width_a_layer_is_the_best_of_all_choices_and_its_price_is_stated(average_bits: float) -> None:
    asked = allocate(COSTS, average_bits=average_bits, scope="model")
    fitted = fit(asked, BY_LAYER, COSTS)
    least, place = best_by_layer(COSTS, average_bits)
    assert fitted.allocation.unit == "layer"
    assert [set(bits) for bits in fitted.allocation.bits.values()] == [{WIDTHS[i]} for i in place]
    assert fitted.allocation.objective == pytest.approx(least)
    assert fitted.price["added_loss"] == pytest.approx(least - asked.objective)
    assert fitted.price["added_loss"] > 0
    assert fitted.allocation.average_bits <= average_bits


def test_what_fits_stays_as_it_is() -> None:
    asked = allocate(COSTS, average_bits=3.0, scope="model", unit="layer")
    fitted = fit(asked, BY_LAYER)
    assert fitted.allocation is asked
    assert fitted.price is None
    twice = {bank: np.stack([bits, bits], axis=1) for bank, bits in asked.bits.items()}
    flat = fit(dataclasses.replace(asked, bits=twice), BY_LAYER).allocation
    assert all((flat.bits[bank] == asked.bits[bank]).all() for bank in asked.bits)


def test_costs_are_made_again_from_the_run_by_the_allocation_s_own_settings() -> None:
    costs = cost_table(STATISTICS, "mode", key_ratio=0.35, vision_weight=2.0)
    asked = allocate(costs, average_bits=3.0)
    again = costs_of(asked, STATISTICS)
    assert all((again[bank] == costs[bank]).all() for bank in costs)
    assert fit(asked, BY_LAYER, statistics=STATISTICS).price["predicted_loss_as_asked"] == pytest.approx(
        asked.objective
    )


def test_a_budget_in_bytes_is_kept() -> None:
    sizes = {bank.name: expert_bytes(bank.shape, WIDTHS, 16, by_projection=True) for bank in STATISTICS}
    total = 8 * sum(table.sum(axis=1)[1] for table in sizes.values())
    asked = allocate(COSTS, scope="model", sizes=sizes, budget_bytes=int(total))
    fitted = fit(asked, BY_LAYER, COSTS, sizes=sizes)
    assert fitted.allocation.bytes <= total
    with pytest.raises(ExportError, match="budget is in bytes"):
        fit(asked, BY_LAYER, COSTS)


def test_a_budget_of_its_own_for_every_layer_is_told() -> None:
    fitted = fit(allocate(COSTS, average_bits=2.5), BY_LAYER, COSTS)
    assert fitted.allocation.average_bits == 2.0
    assert "0.50 bits per weight stay unused" in fitted.notes[0]


def test_costs_of_something_else_are_refused() -> None:
    asked = allocate(COSTS, average_bits=3.0)
    with pytest.raises(ExportError, match="not those that it was solved with"):
        fit(asked, BY_LAYER, cost_table(STATISTICS, "mode"))
    with pytest.raises(ExportError, match="Give the costs or the run"):
        fit(asked, BY_LAYER)


def test_the_manifest_says_what_the_unit_cost(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(TARGETS, "by_layer", BY_LAYER)
    asked = allocate(COSTS, average_bits=3.0, scope="model")
    result = export("by_layer", asked, tmp_path / "out", statistics=STATISTICS, costs=COSTS)
    price = result.manifest["price_of_unit"]
    assert (price["unit_asked"], price["unit_written"]) == ("expert", "layer")
    assert price["times"] == pytest.approx(result.manifest["allocation"]["predicted_loss"] / asked.objective)
    assert result.manifest["allocation"]["unit"] == "layer"
    assert sum(result.manifest["allocation"]["experts_at_each_width"].values()) == 24
