"""The bundled model lies as its family is published, and the run tells of this very model."""

import json
import shutil

import torch
from safetensors.torch import load_file

from mode_core.models import load_model
from mode_core.runs.run import Run
from mode_core.samples import read_samples
from sample_data.layout import publish, retell
from tests import published
from tests.conftest import BUNDLED


def revisions(place) -> set[str]:
    """Every revision of a model that a run, its statistics, its check and its evidence name."""
    run = Run.open(place)
    found = {run.info["model"]["revision"], run.statistics.settings["revision"], run.check().info["revision"]}
    names = ["", *run.evidence_names()]
    assert len(names) > 3
    return found | {run.evidence(name).info["revision"] for name in names}


def test_it_lies_as_the_hub_has_its_family(bundled_model) -> None:
    config = json.loads((BUNDLED / "model" / "config.json").read_text())
    assert config["text_config"]["norm_topk_prob"] is True
    tensors = load_file(BUNDLED / "model" / "model.safetensors")
    for name, bank in bundled_model.banks.items():
        assert tensors[f"{name}.gate_up_proj"].shape == (bank.experts, bank.hidden, 2 * bank.intermediate)
        assert tensors[f"{name}.down_proj"].shape == (bank.experts, bank.intermediate, bank.hidden)


def test_the_run_and_its_evidence_are_of_this_model(bundled_model) -> None:
    assert revisions(BUNDLED / "run") == {bundled_model.revision}


def test_what_transformers_saves_becomes_the_same_files_and_logits(bundled_model, tmp_path) -> None:
    folder = published.resaved(bundled_model, tmp_path / "model")
    samples = read_samples(BUNDLED / "evaluation")[::230]
    before = load_model(folder, device="cpu")
    with torch.inference_mode():
        logits = [before.model(**before.encode([sample]).inputs).logits for sample in samples]
    assert json.loads((folder / "config.json").read_text())["text_config"].get("norm_topk_prob") is None
    publish(folder)
    assert (folder / "model.safetensors").read_bytes() == (BUNDLED / "model" / "model.safetensors").read_bytes()
    assert json.loads((folder / "config.json").read_text())["text_config"]["norm_topk_prob"] is True
    after = load_model(folder, device="cpu")
    with torch.inference_mode():
        for sample, expected in zip(samples, logits, strict=True):
            assert torch.equal(after.model(**after.encode([sample]).inputs).logits, expected)


def test_a_run_is_told_another_revision_and_nothing_else(bundled_run, tmp_path) -> None:
    place = shutil.copytree(BUNDLED / "run", tmp_path / "run")
    retell(place, bundled_run.info["model"]["revision"], "f" * 16)
    assert revisions(place) == {"f" * 16}
    again, whole = Run.open(place).statistics, bundled_run.statistics
    for name, bank in whole.banks.items():
        assert all((again.banks[name].arrays[key] == value).all() for key, value in bank.arrays.items())
    assert again.samples == whole.samples
