"""What the Export page writes and shows is the allocation, and its command line does the same."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from pathlib import Path

import pytest
from gguf import GGUFReader

from mode_core.cli import main
from mode_core.export import GROUPS, TARGETS, read_expert_bits
from mode_core.run import Run
from tests.app.conftest import NAME, finish, words

QUICK = [name for name, target in TARGETS.items() if not target.needs_model]


def take(app, target: str):
    """Choose a form as a person does: the kind, then which."""
    app.pills(key="export:group").set_value(TARGETS[target].group).run()
    return app.radio(key="export:target").set_value(target).run()


def test_what_stock_transformers_loads_is_recommended_first(open_app):
    app = open_app("export")
    shown = app.radio(key="export:target")
    assert shown.value == "auto_round"
    assert ["recommended" in option for option in shown.options] == [True] + 7 * [False]
    assert TARGETS["auto_round"].recommended in shown.proto.captions[0]
    assert "form" not in app.query_params


def test_every_form_is_found_in_its_group_and_stands_in_the_address(open_app):
    app, found = open_app("export"), []
    for group in GROUPS:
        app.pills(key="export:group").set_value(group).run()
        shown = app.radio(key="export:target")
        assert TARGETS[shown.value].group == group
        found += shown.options
    titles = [option.removesuffix(" :blue-badge[recommended]") for option in found]
    assert titles == [target.title for target in TARGETS.values()]
    take(app, "gguf_script")
    assert app.query_params["form"] == "gguf_script"
    take(app, "auto_round")
    assert "form" not in app.query_params


def test_a_link_restores_the_form(open_app):
    app = open_app("export", form="table")
    assert app.pills(key="export:group").value == "data"
    assert app.radio(key="export:target").value == "table"
    assert dict(app.query_params) == {"run": NAME, "form": "table"}
    app.sidebar.selectbox(key="widget:run").set_value("bundled").run()  # another run, the same form
    assert dict(app.query_params) == {"form": "table"}
    app = open_app("export", form="no such form")
    assert not app.exception and app.radio(key="export:target").value == "auto_round"


def test_a_form_that_cannot_hold_the_bits_says_so_and_the_rest_is_there(open_app):
    app = open_app("export", widths="1,2,3", bits="1.5")
    assert not app.exception
    assert "'auto_round' has no 1-bit experts" in words(app)
    assert any("mode_core export" in element.value for element in app.code)


def test_a_run_without_input_energies_says_how_to_have_them(open_app):
    app = open_app("export", form="imatrix")
    assert not app.exception and "calibrate with --imatrix" in words(app)


def test_a_recipe_that_the_model_cannot_have_says_why(open_app):
    app = open_app("export", form="exllamav3_recipe")
    assert not app.exception and "this model has dense ones" in words(app)


def test_the_form_of_the_chosen_engine_comes_first(open_app):
    shown = open_app("export", form="gguf").radio(key="export:target")
    assert shown.value == "gguf" and shown.options[0].endswith("[for llama.cpp, Ollama, LM Studio]")
    assert not any("recommended" in option for option in shown.options) and len(shown.options) == 8


def test_a_group_size_that_a_form_cannot_hold_is_mended_by_a_click(open_app):
    app = open_app("export", form="llm_compressor_recipe")  # rows of 64 and of 24 channels, in groups of 32
    assert "cannot hold groups of 32" in words(app) and "fit this target as they are" not in words(app)
    assert not [button for button in app.button if button.key == "export:write"]
    app = app.button(key="export:group_size").click().run()
    assert app.query_params["group"] == "8" and not app.error and app.button(key="export:write")


def test_without_the_model_only_what_needs_none_is_offered(open_app, monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "model_source", str(tmp_path / "gone"))
    app = open_app("export")
    assert "so this form cannot be written here" in words(app)
    assert not [button for button in app.button if button.key == "export:write"]
    assert take(app, "expert_bits").button(key="export:write")


@pytest.mark.parametrize("target", [name for name in QUICK if name != "imatrix" and "exllamav3" not in name])
def test_every_quick_target_is_shown_and_written(open_app, places: Path, target: str):
    group = "8" if target == "llm_compressor_recipe" else "32"  # which fits gate, up and down of a layer
    app = open_app("export", form=target, group=group)
    assert not app.exception and not app.error
    assert TARGETS[target].proof in words(app)
    app.button(key="export:write").click().run()
    assert not app.exception and not app.error
    [folder] = (places / "exports").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["target"] == target


def test_a_checkpoint_is_written_as_a_job(open_app, places: Path):
    app = take(open_app("export"), "dequantized")
    finish(app.button(key="export:write").click().run())
    [folder] = (places / "exports").iterdir()
    assert {"config.json", "recipe.yaml", "README.md"} <= {path.name for path in folder.iterdir()}
    assert any(f"push {folder}" in code.value and "--to OWNER/NAME" in code.value for code in app.code)


def test_the_command_line_writes_the_same(open_app, places: Path, monkeypatch):
    app = open_app("export", bits="2.5", ratio="40", form="expert_bits")
    app.button(key="export:write").click().run()
    [folder] = (places / "exports").iterdir()
    ours = read_expert_bits(folder / "expert_bits.json")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    [code] = [element.value for element in app.code if "mode_core export" in element.value]
    for line in code.splitlines():
        assert main(shlex.split(line)[3:]) == 0, line
    again = read_expert_bits(folder / "expert_bits.json")
    assert {layer: bits.tolist() for layer, bits in again.items()} == {k: v.tolist() for k, v in ours.items()}


def test_a_gguf_s_own_options_reach_file_command_and_address(open_app, places: Path):
    app = open_app(
        "export", form="gguf", run="bundled", bits="4"
    )  # the tiny model has a dense layer, which GGUF refuses
    app.selectbox(key="export:rest").set_value("Q8_0").run()
    app = app.selectbox(key="export:types").set_value("plan").run()
    assert (app.query_params["rest"], app.query_params["types"]) == ("Q8_0", "plan")
    assert any("--types plan --rest Q8_0" in code.value for code in app.code)
    finish(app.button(key="export:write").click().run())
    [folder] = (places / "exports").iterdir()
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(folder / "model.gguf").tensors}
    assert types["token_embd.weight"] == "Q8_0"
    matrix = places / "exports" / "mine" / "imatrix.gguf"
    matrix.parent.mkdir()
    matrix.write_bytes(b"")
    app = open_app("export", form="gguf")
    assert [option.rpartition("mine/")[2] for option in app.selectbox(key="export:imatrix").options] == [
        "none", "imatrix.gguf",
    ]  # fmt: skip


def test_an_impossible_budget_leads_back(open_app):
    app = open_app("export", bits="1.5")
    assert not app.exception
    assert app.error and any(button.label == "Change the budget" for button in app.button)


def test_the_zip_holds_every_file(tmp_path: Path):
    from dashboard.parts.export.archive import zipped

    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "a.txt").write_text("one")
    (tmp_path / "made" / "deep" / "b.txt").write_text("two")
    with zipfile.ZipFile(io.BytesIO(zipped(tmp_path / "made"))) as archive:
        held = {name: archive.read(name).decode() for name in archive.namelist()}
    assert held == {"made/a.txt": "one", "made/deep/b.txt": "two"}


def test_a_coarser_target_says_its_price(open_app):
    app = take(open_app("export", bits="2.5"), "gguf_script")
    assert not app.exception and not app.error
    assert any("solved again for it: predicted damage" in warning.value for warning in app.warning)
    take(app, "table")
    assert "These bits fit this target as they are" in words(app)


def test_what_a_coarse_form_is_worth_is_said_before_it_is_written(open_app):
    app = take(open_app("export", run="bundled", bits="2.5", form="compressed_tensors"), "compressed_tensors")
    assert not app.exception
    assert any("uniform bits of the same size (2.50 on average)" in info.value for info in app.info)
    app.toggle(key="export:per_layer").set_value(True).run()
    assert any("This is uniform: every expert gets 2 bits" in warning.value for warning in app.warning)
    [code] = [element.value for element in app.code if "mode_core export" in element.value]
    assert code.endswith("--budget-per layer")


def test_units_and_pins_are_in_the_command(open_app, places: Path):
    app = open_app("export", bits="2.5", unit="expert_projection", pins="0.1.4", form="table")
    [code] = [element.value for element in app.code if "mode_core export" in element.value]
    assert "--unit expert_projection" in code and "--pin 0.1=4" in code
    app.button(key="export:write").click().run()
    assert not app.exception and not app.error
    [folder] = (places / "exports").iterdir()
    ours = (folder / "experts.csv").read_text()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    for line in code.splitlines():
        assert main(shlex.split(line)[3:]) == 0, line
    assert (folder / "experts.csv").read_text() == ours
