"""A checkpoint's card and recipe: the card says what was measured, the recipe makes the same bits, twice."""

import json
from pathlib import Path

import pytest
import yaml

from mode_core.cli import main
from mode_core.errors import ExportError
from mode_core.export.recipe import Recipe
from mode_core.run import Run
from tests.unit.test_cli import sample_folder  # noqa: F401  (a fixture)


def told(capsys, *arguments: str) -> dict:
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_model_folder, sample_folder) -> Path:  # noqa: F811
    """A run of five samples, evaluated on them, and a checkpoint of its bits; the original's card names its licence."""
    place = tmp_path_factory.mktemp("published")
    run, out = str(place / "run"), str(place / "out")
    card = tiny_model_folder / "README.md"
    card.write_text("---\nlicense: mit\ntags: [a]\n---\n# Original\n", encoding="utf-8")
    try:
        samples = ("--samples", str(sample_folder))
        chosen = ("--run", run, "--allocation", "x", "--quantizer", "gptq", "--calibration", str(sample_folder))
        for line in (
            ("calibrate", "--model", str(tiny_model_folder), *samples, "--out", run, "--limit", "5", "--draw-seed=3"),
            ("allocate", "--run", run, "--average-bits", "2.75", "--shrinkage", "0.5", "--name", "x"),
            ("evaluate", *chosen, *samples, "--name", "mine", "--quantizer-limit", "3"),
            ("export", *chosen, "--target", "dequantized", "--out", out, "--base-model", "owner/tiny-A1B",
             "--quantizer-limit", "3"),
        ):  # fmt: skip
            assert main([*line, "--quiet"]) == 0
    finally:
        card.unlink()
    return place


def sums(folder: Path) -> dict[str, str]:
    """Checksums of the weights and what lies beside them, by the manifest."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return {name: told["sha256"] for name, told in files.items() if name not in ("README.md", "recipe.yaml")}


def test_the_recipe_makes_the_same_weights_and_twice(exported: Path, tmp_path: Path, capsys):
    recipe = exported / "out" / "recipe.yaml"
    for name in ("one", "two"):
        result = told(capsys, "run", str(recipe), "--run", str(tmp_path / f"run-{name}"), "--out", str(tmp_path / name))
        assert result["bits"] == "those of the recipe"
        recipe = tmp_path / name / "recipe.yaml"  # the second is made by the first one's own recipe
    assert sums(exported / "out") == sums(tmp_path / "one") == sums(tmp_path / "two")
    first, again = Recipe.read(exported / "out" / "recipe.yaml"), Recipe.read(recipe)
    assert (first.settings, first.request, first.quantizer) == (again.settings, again.request, again.quantizer)
    assert first.record["samples"] == again.record["samples"]
    assert first.record["samples"]["seed"] == 3 and first.request.shrinkage == 0.5 and first.quantizer.samples == 3


def test_the_card_has_its_head_and_what_was_measured(exported: Path):
    text = (exported / "out" / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    head = yaml.safe_load(head)
    assert (head["base_model"], head["base_model_relation"]) == ("owner/tiny-A1B", "quantized")
    assert (head["license"], head["library_name"]) == ("mit", "transformers")
    assert "a" not in head["tags"]
    scores = Run.open(exported / "run").evaluations()["mine"]["summary"]
    (row,) = [line for line in body.splitlines() if line.endswith("|") and " in all " in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1].split(" ")[0] == f"{scores['kl']:.4g}" and scores["kl"] > 0
    assert cells[3].startswith(f"{100 * scores['accuracy']:.1f} %")
    assert "The original answers 0.0 % exactly." in body
    assert "Tried with transformers 5.23.0, torch 2.13.0." in body
    assert "Calibration: 5 samples" in body and "--average-bits 2.75" in body and "Rounding: gptq" in body


def test_what_is_not_known_is_not_in_the_card(exported: Path, tiny_model_folder, tmp_path, capsys):
    """No licence beside the weights, no hub id, other bits than those evaluated: each in words instead."""
    told(capsys, "allocate", "--run", str(exported / "run"), "--average-bits", "3", "--name", "other")
    chosen = ("--run", str(exported / "run"), "--allocation", "other", "--target", "dequantized")
    told(capsys, "export", *chosen, "--out", str(tmp_path / "out"), "--stream")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert set(yaml.safe_load(text.split("---\n", 2)[1])) == {"library_name", "tags"}
    for words in ("names no licence", "`--base-model OWNER/NAME`", "not evaluated where this was written"):
        assert words in text
    arguments = ["export", *chosen, "--out", str(tmp_path / "bad"), "--stream", "--base-model", "no id"]
    assert main(arguments) == 1
    assert "base_model must be a hub id" in capsys.readouterr().err


def damaged(exported: Path, change) -> str:
    record = yaml.safe_load((exported / "out" / "recipe.yaml").read_text())
    change(record)
    return yaml.safe_dump(record)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(modle=1), "cannot be run: modle: there is no such field"),
        (lambda r: r["calibration"].update(bitz=[1]), "calibration.bitz: there is no such field"),
        (lambda r: r["allocation"]["request"].update(budget="3"), "allocation.request.budget: input should be a valid"),
        (lambda r: r["allocation"]["request"].update(method="magic"), "cannot be run: allocation: There is no"),
        (lambda r: r["export"]["quantizer"].update(gptq={"damping": 3.0}), "cannot be run: export: damping must lie"),
        (lambda r: r.pop("samples"), "cannot be run: samples: field required"),
        (lambda r: r.update(format="mode-recipe/2"), "has the format mode-recipe/2; this version reads mode-recipe/1"),
    ],
)
def test_a_recipe_is_checked_field_by_field(exported, tmp_path, change, words):
    (tmp_path / "recipe.yaml").write_text(damaged(exported, change), encoding="utf-8")
    with pytest.raises(ExportError, match=words):
        Recipe.read(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x\n", "an alias"),
        ("a: 1\nb: 2\na: 3\n", "'a' occurs twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("a: [1\n", "not readable as YAML"),
        ("[" * 100_000, "not readable as YAML"),
    ],
)
def test_yaml_holds_plain_values_alone(tmp_path, text, words):
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match=words):
        Recipe.read(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["samples"].update(digest="0" * 16), "those of the recipe 0000000000000000"),
        (lambda r: r["samples"].update(path=None), r"does not say where its samples lie \(samples.path\)"),
        (lambda r: r["model"].update(revision="other"), "the recipe was made with other"),
        (lambda r: r["export"]["samples"].update(path="nowhere"), "There is nothing at nowhere"),
    ],
)
def test_another_model_or_other_samples_are_refused(exported, tmp_path, capsys, change, words):
    import re

    (tmp_path / "recipe.yaml").write_text(damaged(exported, change), encoding="utf-8")
    arguments = ["run", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--quiet"]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


def test_bits_that_the_request_does_not_give_have_no_recipe(exported, tiny_model, tmp_path):
    import dataclasses

    from mode_core.export import export

    run = Run.open(exported / "run")
    asked = run.allocations()["x"]
    first = next(iter(asked.bits))
    changed = dataclasses.replace(asked, bits=asked.bits | {first: asked.bits[first][::-1].copy()})
    for allocation, given, words in (
        (changed, run, "are not those that the request"),
        (asked, None, "without the run"),
    ):
        export("dequantized", allocation, tmp_path / "out", run=given, loaded=tiny_model)
        assert words in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
        assert not (tmp_path / "out" / "recipe.yaml").exists()
