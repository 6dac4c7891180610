"""Every reader against damaged files: it reads them, or refuses in the project's own words; no other error comes out.

`MODE_FUZZ=10000 python -m pytest tests/unit/test_damage.py` tries ten thousand of each, other ones every time.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mode_core.allocation import Allocation
from mode_core.calibration.settings import CalibrationSettings
from mode_core.cli.main import main
from mode_core.comparison.items import ItemScores
from mode_core.comparison.store import Store
from mode_core.errors import ModeError
from mode_core.evaluation.records import ScoredAnswer, Scores
from mode_core.export.expert_bits import read_expert_bits
from mode_core.export.folder import MANIFEST, check_destination
from mode_core.export.recipe import Recipe
from mode_core.export.writing import export
from mode_core.files import read_tensors, tensor_bytes
from mode_core.importance import Recommendation
from mode_core.prediction import Anchor, Check
from mode_core.prediction.check import Ranking, Trial
from mode_core.quantization import quantize
from mode_core.quantization.packed_file import read_packed, write_packed
from mode_core.quantization.packing import pack_matrices
from mode_core.request import AllocationRequest, Quantizer
from mode_core.runs.evidence import TABLES, WORDS, Evidence
from mode_core.runs.merging import merge_runs
from mode_core.runs.released_json import import_released
from mode_core.runs.run import Run
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.exemplars import ENTRY, Exemplars, sample_key
from mode_core.statistics.imatrix import InputEnergies
from mode_core.yaml_files import yaml_of
from tests.damage import QUICK, damaged_bytes, damaged_value, foreign
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import synthetic_run

COUNTS = {"total": [4, 4], "text": [1, 2], "image": [3, 2], "dominant_image": [1, 1], "redundant_image": [2, 1]}
ERRORS = {width: {"text": 0.1, "vision": 0.2} for width in ("2", "3")}
RELEASED = {
    "frequency": {f"model.language_model.layers.{layer}.mlp": COUNTS for layer in (0, 1)},
    "sensitivity": {
        "metadata": {"dominant_ratio": 0.2, "group_size": 128, "model_type": "x", "model_path": "m"},
        "sensitivities": {f"model.language_model.layers.{layer}.mlp": {"0": ERRORS, "1": ERRORS} for layer in (0, 1)},
    },
}
SCORES = Scores(
    (
        ScoredAnswer("a", "text", "t", "q", "red", "red", True, 0.1, 1.0, 0.2, 2),
        ScoredAnswer("b", "vision", None, "q", None, "blue", None, None, None, None, 0),
    ),
    1.0,
    settings={"measurement": "m", "model": "original", "bytes": 1, "predicted": 1, "uniform_bits": 3.0, "made": 1.0}
    | {"choices": {"request": AllocationRequest().to_dict(), "megabytes": None}, "notes": ["n"]},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A small whole run with pictures, an allocation, an evaluation and exemplars."""
    made = synthetic_run(tmp_path_factory.mktemp("damage") / "run", banks=2, experts=4, pictures=2, tokens=500)
    asked = AllocationRequest("frequency", shrinkage=0.5, pins=((0, 1, 4),))
    made.save_allocation("three", asked.solve(made.statistics))
    made.save_evaluation("scores", SCORES.to_dict())
    anchor = Anchor((2, 3), {"all": (0.5, 0.1)}, {"all": (0.1, 0.1)}, {"all": 4}, {"seconds": 1.0})
    anchor.save(made.path / "anchor.json")
    choice = Recommendation("mode", "bank", 0.0, "measured")
    ranking, trial = Ranking("mode", "all", 0.9, 0.8, 1.0), Trial("mode", "bank", 0.0, 3.0, {"all": 0.1}, 0.9, 0.8, 1.0)
    check = Check({"all": (0.1, 0.2)}, {"mode": (1.0, 2.0)}, (ranking,), (trial,), choice, anchor, {"revision": None})
    check.save(made.path / "check.json")
    exemplars = Exemplars.empty({bank.name: 4 for bank in made.statistics}, 2)
    for table in exemplars.tables.values():
        table[:, :, 0] = np.array((0.5, False, sample_key("s"), 3, 1, 7, np.arange(13)), ENTRY)
    exemplars.samples = {sample_key("s"): {"id": "s", "grids": [[2, 3]]}}
    exemplars.snippets = {np.arange(13, dtype="<i4").tobytes(): ("a", "b", "c")}
    exemplars.save(made.path)
    return made


def whole(path: Path) -> None:
    """Read everything that a run holds."""
    run = Run.open(path)
    assert run.model_source is None or run.model_source
    for name in ("statistics", "state", "name"):
        getattr(run, name)
    run.sample_records()
    run.token_scores()
    run.token_routes()
    if (exemplars := run.exemplars()) is not None:
        for bank, table in exemplars.tables.items():
            for expert in range(table.shape[1]):
                exemplars.text(bank, expert)
                assert all(patch.box is None or len(patch.box) == 4 for patch in exemplars.patches(bank, expert))
    for allocation in run.allocations().values():
        AllocationRequest.of(allocation, run.statistics)
    run.recommended()
    run.predictor()
    run.check()
    for record in run.evaluations().values():
        Scores.from_dict(record).summary()


JSON_FILES = (
    *("run.json", "samples.json", "allocations/three.json", "evaluations/scores.json"),
    *("anchor.json", "check.json"),
)
TENSOR_FILES = {
    "statistics.safetensors": "statistics",
    "token_scores.safetensors": "token_scores",
    "token_routes.safetensors": "token_routes",
    "exemplars.safetensors": "exemplars",
}


def tried(path: Path, content: bytes, read) -> None:
    """Put content in the place of a file, read, and put the file back."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            foreign(read, (ModeError,))
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", JSON_FILES)
@QUICK
@given(data=st.data())
def test_json_of_a_run(run, name, data):
    path = run.path / name
    record = json.loads(path.read_bytes())
    content = data.draw(st.one_of(damaged_value(record), damaged_bytes(path.read_bytes())))
    tried(path, content, lambda: whole(run.path))


@pytest.mark.parametrize("name", TENSOR_FILES)
@QUICK
@given(data=st.data())
def test_tensors_of_a_run(run, name, data):
    path, key = run.path / name, TENSOR_FILES[name]
    if data.draw(st.booleans()):
        tensors, metadata = read_tensors(path, ModeError)
        header = data.draw(damaged_value(json.loads(metadata[key]))).decode(errors="replace")
        content = tensor_bytes(tensors, metadata | {key: header})
    else:
        content = data.draw(damaged_bytes(path.read_bytes()))
    tried(path, content, lambda: whole(run.path))


@QUICK
@given(data=st.data())
def test_runs_that_are_merged(run, data, tmp_path_factory):
    """What one run's run.json says must not break the merging of two."""
    path, out = run.path / "run.json", tmp_path_factory.mktemp("merged") / "both"
    tried(
        path,
        data.draw(damaged_value(json.loads(path.read_bytes()))),
        lambda: merge_runs([Run.open(run.path), Run.open(run.path)], out),
    )


@QUICK
@given(data=st.data())
def test_allocations_that_are_exported(run, data, tmp_path_factory):
    path = run.path / "allocations" / "three.json"
    out = tmp_path_factory.getbasetemp() / "export"

    def read() -> None:
        allocation = Allocation.load(path)
        export("table", allocation, out / "table", run=Run.open(run.path))
        export("expert_bits", allocation, out / "bits", run=Run.open(run.path))
        read_expert_bits(out / "bits" / "expert_bits.json")

    tried(path, data.draw(damaged_value(json.loads(path.read_bytes()))), read)


@QUICK
@given(data=st.data())
def test_files_of_the_released_code(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "released"
    folder.mkdir(exist_ok=True)
    which = data.draw(st.sampled_from(sorted(RELEASED)))
    for name, record in RELEASED.items():
        content = data.draw(damaged_value(record)) if name == which else json.dumps(record).encode()
        (folder / f"{name}.json").write_bytes(content)
    sizes = data.draw(st.sampled_from(((8, 4, 1), (8, 4, 0), (-1, 1 << 40, 2), None)))
    foreign(lambda: import_released(folder / "frequency.json", folder / "sensitivity.json", sizes=sizes), (ModeError,))


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    path, draw = tmp_path_factory.mktemp("packed") / "experts.safetensors", torch.Generator().manual_seed(0)
    matrices = pack_matrices(quantize(torch.randn(3, 8, 16, generator=draw), 3, 8, symmetric=False))
    experts = {("layers.0.x", expert, "up"): matrix for expert, matrix in enumerate(matrices[:2])}
    write_packed(path, experts, Quantizer(), {"q": matrices[2]})
    return path


@QUICK
@given(data=st.data())
def test_packed_codes(packed, data):
    if data.draw(st.booleans()):
        tensors, metadata = read_tensors(packed, ModeError)
        header = data.draw(damaged_value(json.loads(metadata["packed"]))).decode(errors="replace")
        content = tensor_bytes(tensors, {"packed": header})
    else:
        content = data.draw(damaged_bytes(packed.read_bytes()))

    def read() -> None:
        kept = read_packed(packed)
        for matrix in [*kept.experts.values(), *kept.linears.values()]:
            matrix.dequantize()

    tried(packed, content, read)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    tables = {
        name: pd.DataFrame({column: ["x", "y"] if column in WORDS else [1.0, 2.0] for column in columns})
        for name, columns in TABLES.items()
    }
    Evidence(**tables, info={"draws": 5, "settings": {"widths": [2, 3]}}).save(folder)
    return folder


@QUICK
@given(data=st.data())
def test_evidence(evidence, data):
    name = data.draw(st.sampled_from(("evidence.json", "evidence.json", "scores.parquet", "truth.parquet")))
    path, record = evidence / name, evidence / "evidence.json"
    if name == "evidence.json":
        return tried(path, data.draw(damaged_value(json.loads(path.read_bytes()))), lambda: Evidence.load(evidence))
    content = data.draw(damaged_bytes(path.read_bytes()))
    unsealed = json.dumps({k: v for k, v in json.loads(record.read_bytes()).items() if k != "tables"}).encode()
    return tried(record, unsealed, lambda: tried(path, content, lambda: Evidence.load(evidence)))


@QUICK
@given(data=st.data())
def test_input_energies(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "energies"
    folder.mkdir(exist_ok=True)
    parts = {"a/up": np.ones((3, 2, 4)), "head": np.ones((3, 1, 4))}
    settings = {"model": "m", "revision": None, "key_ratio": 0.2, "signal": "x", "family": ["a", "b"]}
    InputEnergies(parts, {key: own[..., 0] for key, own in parts.items()}, settings, ("s",)).save(folder)
    assert InputEnergies.load(folder, ["s"]).weighted((1, 1, 0))["head"][1].tolist() == [2.0]
    [path] = folder.iterdir()
    tensors, metadata = read_tensors(path, ModeError)
    header = data.draw(damaged_value(json.loads(metadata["imatrix"]))).decode(errors="replace")
    content = data.draw(
        st.one_of(st.just(tensor_bytes(tensors, {"imatrix": header})), damaged_bytes(path.read_bytes()))
    )

    def read() -> None:
        if (found := InputEnergies.load(folder, ["s"])) is not None:
            found.weighted((1, 1, 0))
            f"{found.settings['key_ratio']:g}"

    tried(path, content, read)


@QUICK
@given(data=st.data())
def test_measurements_of_a_comparison(data, tmp_path_factory):
    store = Store(tmp_path_factory.getbasetemp() / "measured", {"model": "m"})
    store.put("key", ItemScores(*np.ones((3, 4), np.float32)))
    path = store.folder / "key.safetensors"
    path.write_bytes(data.draw(damaged_bytes(path.read_bytes())))
    foreign(lambda: Store(store.folder, {"model": "m"})["key"], (ModeError,))


@QUICK
@given(data=st.data())
def test_manifests_and_bits_of_an_export(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "exported"
    folder.mkdir(exist_ok=True)
    manifest = {"format": "mode-export/1", "target": "table", "files": {"a": {"bytes": 1}}}
    (folder / MANIFEST).write_bytes(data.draw(damaged_value(manifest)))
    foreign(lambda: check_destination(folder, "table"), (ModeError,))
    bits = {"metadata": {}, "expert_bits": {"0": {"0": 2, "1": 3}}}
    (folder / "bits.json").write_bytes(data.draw(damaged_value(bits)))
    foreign(lambda: read_expert_bits(folder / "bits.json"), (ModeError,))


@QUICK
@given(data=st.data())
def test_recipes_of_a_run(data, tmp_path_factory):
    record = {
        "format": "mode-recipe/1",
        "model": {"source": "a", "revision": "b", "dtype": "auto"},
        "samples": {"path": "c", "limit": 3, "first": False, "seed": 0, "digest": "d"},
        "calibration": CalibrationSettings().to_dict(),
        "allocation": {"request": AllocationRequest().to_dict(), "quantizer": Quantizer().to_dict()},
        "export": {"target": "table", "quantizer": Quantizer().to_dict(), "options": {}, "stream": False},
        "bits": "e",
    }
    Recipe.of(record)
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"  # JSON is YAML too
    path.write_bytes(json.dumps(record).encode())
    by_value = data.draw(st.booleans())
    content = data.draw(damaged_value(record) if by_value else damaged_bytes(yaml_of(record).encode()))
    tried(path, content, lambda: Recipe.read(path))


def test_a_header_that_claims_a_million_experts_takes_no_memory(tmp_path):
    made = synthetic_statistics(banks=1, experts=2, tokens=50)
    made.save(tmp_path / "s.safetensors")
    tensors, metadata = read_tensors(tmp_path / "s.safetensors", ModeError)
    header = json.loads(metadata["statistics"])
    header["banks"][0]["experts"] = 1_000_000
    for kept in (tensors, {}):
        (tmp_path / "huge").write_bytes(tensor_bytes(kept, {"statistics": json.dumps(header)}))
        with pytest.raises(ModeError, match="claims more experts than the file has room for"):
            ExpertStatistics.load(tmp_path / "huge")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bits: [*bits, 3], "has bits for 5 experts of bank {bank}, which has 4"),
        (
            lambda bits: [2.5, *bits[1:]],
            "bits of bank '{bank}', expert 0: expected one of the widths 2, 3, 4; it holds 2.5",
        ),
        (lambda bits: [*bits[:3], True], "bits of bank '{bank}', expert 3: .* it holds True"),
        (lambda bits: [*bits[:2], 7, bits[3]], "bits of bank '{bank}', expert 2: .* it holds 7"),
        (lambda bits: [], "bits of bank '{bank}': there are none"),
        (lambda bits: [[2, 3], *bits[1:]], "expert 1: expected two of the widths"),
    ],
)
def test_bits_that_are_none_are_refused_by_bank_and_expert(run, tmp_path, change, words):
    record = json.loads((run.path / "allocations" / "three.json").read_bytes())
    bank = list(record["bits"])[1]
    record["bits"][bank] = change(record["bits"][bank])
    (tmp_path / "changed.json").write_text(json.dumps(record))
    with pytest.raises(ModeError, match=words.format(bank=bank)):
        export("table", Allocation.load(tmp_path / "changed.json"), tmp_path / "out", run=run)


@pytest.mark.parametrize("key", ["model", "bytes", "choices", "uniform_bits", "notes", "made"])
def test_show_leaves_a_damaged_evaluation_out_and_says_so(run, capsys, key):
    path = run.path / "evaluations" / "odd.json"
    record = json.loads((run.path / "evaluations" / "scores.json").read_bytes())
    path.write_text(json.dumps(record | {"settings": record["settings"] | {key: [["x"]]}}))
    try:
        assert main(["show", "--run", str(run.path), "--json"]) == 0
    finally:
        path.unlink()
    told = json.loads(capsys.readouterr().out)
    assert list(told["evaluations"]) == ["scores"] and f"'odd' is damaged: {key}" in told["damaged"]["odd"]


@pytest.mark.parametrize(
    "changes",
    [{"choice": {"scope": "x"}}, {"choice": {"shrinkage": 2.0}}, {"choice": {"method": "x"}}, {"measured": {}}],
)
def test_a_check_whose_choice_cannot_be_taken_is_damaged(run, tmp_path, changes):
    record = json.loads((run.path / "check.json").read_bytes())
    record |= {key: record[key] | own if own else own for key, own in changes.items()}
    (tmp_path / "check.json").write_text(json.dumps(record))
    with pytest.raises(ModeError, match=r"check\.json is damaged"):
        Check.load(tmp_path / "check.json")


def test_a_newer_format_is_told_from_damage_and_from_another_kind(run, tmp_path):
    record = json.loads((run.path / "allocations" / "three.json").read_bytes())
    for changes, words in (
        ({"format": "mode-allocation/2"}, "has the format mode-allocation/2; this version reads mode-allocation/1"),
        ({"format": "mode-allocation/10"}, "Update this software"),
        ({"format": "mode-run/1"}, "is JSON, but no allocation"),
        ({"extra": 1}, "is damaged: extra: there is no such field"),
        ({"widths": None}, "is damaged: widths: input should be a valid list; it holds None"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(record | changes))
        with pytest.raises(ModeError, match=words):
            Allocation.load(tmp_path / "a.json")
