"""MODE_MODELS: every way round it that is known, tried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dashboard.jobs import shelf, work
from dashboard.jobs.forecast import outlined
from dashboard.state import folders, model_sources, sample_sources
from mode_core.models import ModelError
from mode_core.samples import SampleError


@pytest.fixture
def inside(tmp_path: Path, tiny_model_folder: Path, monkeypatch) -> Path:
    """A model below the one folder from which models may be read; the working folder is another one."""
    place = tmp_path / "models" / "owner" / "tiny"
    shutil.copytree(tiny_model_folder, place)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MODE_MODELS", str(tmp_path / "models"))
    return place


def test_what_lies_below_is_read_and_the_bundled_model_always(inside: Path):
    assert model_sources.allowed(str(inside)) == str(inside)
    assert model_sources.allowed(str(folders.BUNDLED_MODEL)) == str(folders.BUNDLED_MODEL)


def test_other_folders_are_not_and_no_reader_is_passed_by(inside: Path, tiny_model_folder: Path):
    (inside.parent / "way-out").symlink_to(tiny_model_folder)
    for place in (tiny_model_folder, inside / ".." / ".." / ".." / "elsewhere", inside.parent / "way-out", "\0"):
        with pytest.raises(ModelError, match="may not be read"):
            model_sources.allowed(str(place))
    for read in (shelf.ModelShelf().get, work.load_processor, outlined):
        with pytest.raises(ModelError, match=r"may not be read.*this dashboard reads models below"):
            read(str(tiny_model_folder))


def test_a_hub_id_that_is_a_folder_is_a_folder_and_a_real_one_lies_nowhere_below(inside: Path, tiny_model_folder: Path):
    shutil.copytree(tiny_model_folder, Path("owner") / "name")  # of the working folder
    with pytest.raises(ModelError, match="owner/name may not be read"):
        model_sources.allowed("owner/name")
    with pytest.raises(ModelError, match="is fetched from the hub, but this dashboard reads models below"):
        model_sources.allowed("nobody/name")


@pytest.mark.parametrize("name", ["/etc/hostname", "../../../elsewhere/weights.safetensors"])
def test_a_weight_index_leads_nowhere_else(inside: Path, name: str):
    (inside / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match=f"it leads to {Path(name).name}, which lies elsewhere"):
        model_sources.allowed(str(inside))


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_that_cannot_be_read_lets_nothing_be_read(inside: Path, text: str):
    (inside / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match="cannot be checked"):
        model_sources.allowed(str(inside))


def test_a_link_in_the_folder_leads_nowhere_else(inside: Path, tmp_path: Path):
    (inside / "tokenizer_extra.json").symlink_to(tmp_path / "elsewhere" / "secret.json")
    with pytest.raises(ModelError, match=r"it leads to tokenizer_extra\.json, which lies elsewhere"):
        model_sources.allowed(str(inside))


@pytest.mark.parametrize("value", ["", ":", "::", "models", ".", " "])
def test_odd_values_close(inside: Path, value: str, monkeypatch):
    monkeypatch.setenv("MODE_MODELS", value)
    with pytest.raises(ModelError, match="reads the bundled model only"):
        model_sources.allowed(str(inside))
    assert model_sources.allowed(str(folders.BUNDLED_MODEL))


def test_a_colon_too_many_opens_nothing(inside: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MODE_MODELS", f":{tmp_path / 'models'}:")
    assert model_sources.allowed(str(inside)) and model_sources.roots() == (tmp_path / "models",)
    with pytest.raises(ModelError):
        model_sources.allowed(str(tmp_path / "elsewhere"))


def test_unset_lets_everything_be_read(inside: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MODE_MODELS")
    assert model_sources.allowed(str(tmp_path / "elsewhere")) == str(tmp_path / "elsewhere")
    assert model_sources.allowed("nobody/name") == "nobody/name"


def test_samples_are_read_below_named_folders_alone_and_without_a_name_nowhere(tmp_path: Path, monkeypatch):
    table = tmp_path / "data" / "s.jsonl"
    table.parent.mkdir()
    table.write_text('{"images": [], "question": "what ?"}')
    for value in (None, "", ":", "data", "."):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MODE_SAMPLES", raising=False)
        if value is not None:
            monkeypatch.setenv("MODE_SAMPLES", value)
        with pytest.raises(SampleError, match=r"No folder of this machine may be read\. Start"):
            sample_sources.read(str(table))
    monkeypatch.setenv("MODE_SAMPLES", str(tmp_path / "data"))
    assert len(sample_sources.read(str(table))) == len(sample_sources.read(" s.jsonl ")) == 1
    for place in ("../s.jsonl", "/etc/hostname", str(tmp_path), "\0", "~"):
        with pytest.raises(SampleError):
            sample_sources.read(place)
