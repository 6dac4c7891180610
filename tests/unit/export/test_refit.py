"""An allocation solved again at the unit that a target can hold, against trying every choice."""

import dataclasses
import itertools

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.export import TARGETS, ExportError, export
from mode_core.export.refit import costs_of, fit, told_beside_uniform
from mode_core.export.target import Fitted
from mode_core.importance import cost_table
from mode_core.quantization import expert_bytes
from mode_core.request import AllocationRequest
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


def test_coarse_units_share_the_model_s_budget_unless_a_person_insists() -> None:
    asked = allocate(COSTS, average_bits=2.5)
    shared = fit(asked, BY_LAYER, COSTS)
    assert shared.allocation.objective == pytest.approx(best_by_layer(COSTS, 2.5)[0])
    assert shared.allocation.scope == "model"
    assert shared.notes[0].startswith("The layers share one budget")
    alone = fit(asked, BY_LAYER, COSTS, budget_per="layer")
    assert alone.width == 2
    assert alone.allocation.objective > shared.allocation.objective
    assert "0.50 bits per weight stay unused" in alone.notes[0]
    with pytest.raises(ExportError, match="A budget is per model or per layer, not per 'bank'"):
        fit(asked, BY_LAYER, COSTS, budget_per="bank")


def test_a_share_of_the_bytes_that_is_spoken_for_stays_so() -> None:
    sizes = {bank.name: expert_bytes(bank.shape, WIDTHS, 16, by_projection=True) for bank in STATISTICS}
    total = 8 * int(sum(table.sum(axis=1)[1] for table in sizes.values()))
    asked = allocate(COSTS, scope="model", sizes=sizes, budget_bytes=total + 1000, fixed_bytes=1000)
    assert fit(asked, BY_LAYER, COSTS, sizes=sizes).allocation.bytes <= total


def test_costs_that_do_not_compare_across_layers_say_so_where_layers_share_a_budget() -> None:
    costs = cost_table(STATISTICS, "mode")
    notes = fit(allocate(costs, average_bits=2.5), BY_LAYER, costs).notes
    assert any("favours layers with large outputs" in note for note in notes)


def test_what_a_coarse_unit_is_worth_is_said_beside_uniform_bits_of_its_size(bundled_run, tmp_path) -> None:
    asked = AllocationRequest("mode_soft_fisher", shrinkage=0.5, budget=2.5).solve(bundled_run.statistics)
    told: list[Fitted] = []
    target, predict = TARGETS["compressed_tensors"], bundled_run.predictor().predict
    fitted = fit(asked, target, statistics=bundled_run.statistics)
    sentence = told_beside_uniform(fitted, predict)
    plain = fitted.rival
    assert {int(width) for bits in plain.bits.values() for width in bits} == {2, 3}  # half of the experts each
    assert plain.average_bits == 2.5
    assert fitted.allocation.average_bits == 2.5 and fitted.width is None
    for kind, found in predict(fitted.allocation).kl.items():
        assert f"{kind} {found.value:.2g} against {predict(plain).kl[kind].value:.2g}" in sentence
    assert "uniform bits of the same size (2.50 on average)" in sentence
    out = tmp_path / "out"
    result = export("mlx_config", asked, out, run=bundled_run, before=lambda now: told.append(now) or no_file(out))
    assert told[0].notes[0].startswith("Predicted KL") and result.manifest["notes"][0] == told[0].notes[0]


def no_file(folder) -> None:
    assert not folder.exists()


def test_what_equals_uniform_is_called_so(bundled_run) -> None:
    asked = AllocationRequest("mode_soft_fisher", budget=3.0).solve(bundled_run.statistics)
    insisted = fit(asked, BY_LAYER, statistics=bundled_run.statistics, budget_per="layer")
    assert told_beside_uniform(insisted, bundled_run.predictor().predict).startswith(
        "This is uniform: every expert gets 3 bits"
    )
    solved_so = AllocationRequest("mode_soft_fisher", budget=3.0, unit="layer").solve(bundled_run.statistics)
    kept = fit(solved_so, BY_LAYER, statistics=bundled_run.statistics)
    assert kept.price is None and told_beside_uniform(kept, bundled_run.predictor().predict).startswith("This is unif")
    assert told_beside_uniform(fit(asked, TARGETS["auto_round"], statistics=bundled_run.statistics), None) == ""


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
