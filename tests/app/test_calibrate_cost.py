"""What costs far more than the rest of a calibration: the Hessian's probes, and the KL of the answer by consent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig

from dashboard.jobs.answer_kl import AnswerKL
from dashboard.jobs.forecast import SOFTWARE, estimate_memory
from dashboard.jobs.shelf import ModelShelf
from dashboard.jobs.work import calibrate_run
from mode_core.calibration import CalibrationError, CalibrationSettings, LogitKLSettings, logit_kl_cost
from mode_core.importance import METHODS
from mode_core.run import Run
from tests.app.conftest import NAME, finish, words
from tests.families.configs import CONFIGS


@pytest.fixture
def with_tiny(open_app, tiny_model_folder: Path):
    """The page with the tiny model and two samples."""
    app = open_app("calibrate")
    app.segmented_control(key="calibrate:model").set_value("Folder").run()
    app.text_input(key="calibrate:folder").set_value(str(tiny_model_folder)).run()
    app.slider(key="samples:count:Bundled samples").set_value(2).run()
    return app


def agreements(app) -> list:
    return [box for box in app.checkbox if box.label.startswith("Agreed")]


def test_both_reach_the_calibration_once_agreed_to(with_tiny, tiny_model, tiny_samples, places: Path):
    app = with_tiny
    assert app.number_input(key="calibrate:probes").value == 0 and not app.toggle(key="calibrate:kl").value
    assert not agreements(app) and not app.button(key="calibrate:start").disabled
    least, most = re.search(r"Memory, estimate: ([\d.]+) to ([\d.]+) GB", words(app)).groups()
    assert SOFTWARE / 1e9 <= float(least) < float(most)
    app.pills(key="calibrate:widths").set_value([2]).run()
    app.number_input(key="calibrate:probes").set_value(1).run()
    assert "adds about 8 passes of one sample each" in words(app)  # two samples, four each
    assert not app.button(key="calibrate:start").disabled

    app.toggle(key="calibrate:kl").set_value(True).run()
    app.number_input(key="calibrate:kl-ratio").set_value(30).run()
    cost = logit_kl_cost(tiny_model, tiny_samples[:2], (2,), LogitKLSettings())
    assert f"at most **{cost.passes:,} forward passes** of 2 samples" in words(app)
    assert app.button(key="calibrate:start").disabled and "Next: agree to the passes" in words(app)
    agreements(app)[0].set_value(True).run()
    assert not app.button(key="calibrate:start").disabled
    app.text_input(key="calibrate:name").set_value("dear").run()
    finish(app.button(key="calibrate:start").click().run())
    assert not app.exception and not app.error, [error.value for error in app.error]
    run = Run.open(places / "runs" / "dear")
    assert set(run.statistics.extras) == {"gradients", "hessian", "logit_kl"} and run.state == "done"
    assert run.info["settings"]["hessian_probes"] == 1 and run.statistics.bits == (2,)
    told = run.info["logit_kl"]
    assert (told["samples"], told["key_ratio"], told["signal"]) == (2, 0.3, "text_attention")
    assert all(METHODS[name].available(run.statistics) for name in ("hessian_trace", "logit_kl", "mode_logit_kl"))


def test_another_cost_needs_another_consent(with_tiny):
    app = with_tiny
    app.toggle(key="calibrate:kl").set_value(True).run()
    agreements(app)[0].set_value(True).run()
    assert not app.button(key="calibrate:start").disabled
    app.pills(key="calibrate:widths").set_value([1, 2]).run()
    assert not agreements(app)[0].value and app.button(key="calibrate:start").disabled
    app.toggle(key="calibrate:kl").set_value(False).run()
    assert not app.button(key="calibrate:start").disabled


def test_a_hub_id_whose_cost_cannot_be_told_is_not_started_with_it(open_app):
    app = open_app("calibrate")
    app.segmented_control(key="calibrate:model").set_value("Hub id").run()
    app.text_input(key="calibrate:hub").set_value("nobody/nothing").run()
    assert not app.button(key="calibrate:start").disabled
    app.toggle(key="calibrate:kl").set_value(True).run()
    assert "not known before the model is on this machine" in words(app)
    assert not app.exception and app.button(key="calibrate:start").disabled


def test_what_would_take_longer_than_agreed_measures_nothing(tiny_model_folder, tiny_samples, tmp_path: Path):
    shelf, settings = ModelShelf(), CalibrationSettings(bits=(2,), group_size=32)
    how = {"progress": lambda seen: None, "cancel": None}
    with pytest.raises(CalibrationError, match=r"at most 38 forward passes.* 0 minutes were allowed. Nothing was"):
        calibrate_run(
            shelf, str(tiny_model_folder), tiny_samples, settings, tmp_path / "run", AnswerKL(seconds=0), **how
        )
    assert not (tmp_path / "run").exists()


def test_memory_of_the_dear_ones_is_told(tiny_model_folder: Path):
    source, plain = str(tiny_model_folder), CalibrationSettings(bits=(2, 4), stack_bytes=0)
    usual = estimate_memory(source, plain)
    dear = {
        "KL": estimate_memory(source, plain, answer_kl=True),
        "Hessian": estimate_memory(source, replace(plain, hessian_probes=1)),
        "gradients": estimate_memory(source, replace(plain, gradients=True)),
        "signals": estimate_memory(source, replace(plain, signals=("duplication", "diversity"))),
    }
    for name, one in dear.items():
        assert one.least > usual.least and one.most > usual.most, name
    for longer in (replace(plain, batch_size=8), replace(plain, gradients=True, batch_size=8)):
        told = estimate_memory(source, longer, tokens=1000)
        assert told.most > estimate_memory(source, replace(longer, batch_size=4), tokens=1000).most
        assert told.least == estimate_memory(source, replace(longer, batch_size=4)).least


def test_memory_told_before_is_that_of_its_parts(tiny_runs: Path, tiny_model, tmp_path: Path):
    """Weights and sums as they lie in memory; and sums of what a model hears where it does."""
    run = Run.open(tiny_runs / NAME)
    settings = CalibrationSettings(bits=run.statistics.bits, signals=run.statistics.signals)
    told = estimate_memory(run.model_source, settings)
    sums = sum(array.nbytes for bank in run.statistics for array in bank.arrays.values())
    assert told.parts["weights"] == sum(parameter.nbytes for parameter in tiny_model.model.parameters())
    assert told.parts["sums"] == pytest.approx(sums, rel=0.1)
    assert told.least == sum(told.parts.values()) > SOFTWARE + sums
    assert told.most == told.least + sum(told.beside.values())
    assert told.beside["audio sums"] == 0
    kind, arguments = CONFIGS["qwen3_omni_moe_thinker"]
    AutoConfig.for_model(kind, **arguments).save_pretrained(tmp_path)
    hears = estimate_memory(str(tmp_path), settings)
    assert hears.beside["audio sums"] == pytest.approx(hears.parts["sums"], rel=0.02)
