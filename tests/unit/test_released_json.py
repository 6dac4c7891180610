"""Files as the paper's released code writes them: their costs, by its objective written out here, come back."""

import json

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.importance import ImportanceError, cost_table, frequencies
from mode_core.run import Run
from mode_core.runs.released_json import ReleasedJsonError, import_released, import_run

EXPERTS, LAYERS, BITS = 6, (1, 3), (2, 3, 4)
NAME = "model.language_model.layers.{}.mlp"


@pytest.fixture
def records() -> tuple[dict, dict]:
    """Frequency and sensitivity records with made-up numbers; seed 3. Expert 5 is never chosen by text."""
    draw = np.random.default_rng(3)
    frequency, sensitivity = {}, {}
    for layer in LAYERS:
        text, key, rest = (draw.integers(1, 100, EXPERTS) for _ in range(3))
        text[5] = 0
        frequency[NAME.format(layer)] = {
            "total": (text + key + rest).tolist(), "text": text.tolist(), "image": (key + rest).tolist(),
            "dominant_image": key.tolist(), "redundant_image": rest.tolist(),
        }  # fmt: skip
        sensitivity[NAME.format(layer)] = {
            str(e): {
                str(b): {"text": float(draw.random() * 4.0**-b), "vision": float(draw.random() * 4.0**-b)} for b in BITS
            }
            for e in range(EXPERTS)
        }
    metadata = {"model_path": "/models/Qwen3-VL-30B-A3B-Instruct", "model_type": "tiny", "candidate_bits": list(BITS),
                "group_size": 64, "dominant_ratio": 0.2, "metric": "expert_mse"}  # fmt: skip
    return frequency, {"metadata": metadata, "sensitivities": sensitivity}


@pytest.fixture
def files(records, tmp_path):
    return written(tmp_path, *records)


def written(folder, frequency, sensitivity):
    paths = folder / "frequency.json", folder / "sensitivity.json"
    for path, record in zip(paths, (frequency, sensitivity), strict=True):
        path.write_text(json.dumps(record))
    return paths


SIZES = (64, 32, 2)


def test_costs_are_those_of_the_released_objective(files, records) -> None:
    statistics = import_released(*files, sizes=SIZES)
    costs = cost_table(statistics, "mode", key_ratio=0.20)
    frequency, sensitivity = records[0], records[1]["sensitivities"]
    for layer in LAYERS:
        counts, own = frequency[NAME.format(layer)], sensitivity[NAME.format(layer)]
        for e in range(EXPERTS):
            for column, b in enumerate(BITS):
                text = counts["text"][e] / sum(counts["text"]) * own[str(e)][str(b)]["text"]
                key = counts["dominant_image"][e] / sum(counts["dominant_image"]) * own[str(e)][str(b)]["vision"]
                assert costs[f"{NAME.format(layer)}.experts"][e, column] == pytest.approx(text + key)
    assert allocate(costs, average_bits=3.0, equality=True).average_bits == 3.0


def test_frequencies_by_kind(files, records) -> None:
    shares = frequencies(import_released(*files, sizes=SIZES), 0.20)
    for layer in LAYERS:
        counts, found = records[0][NAME.format(layer)], shares[f"{NAME.format(layer)}.experts"]
        for kind, key in (
            ("text", "text"),
            ("vision", "image"),
            ("key", "dominant_image"),
            ("redundant", "redundant_image"),
        ):
            np.testing.assert_allclose(getattr(found, kind), np.array(counts[key]) / sum(counts[key]))


def test_only_the_files_own_key_ratio_is_answered(files) -> None:
    statistics = import_released(*files, sizes=SIZES)
    for ratio in (0.1, 0.5):
        with pytest.raises(ImportanceError, match=r"hold only the key ratio 0\.2"):
            cost_table(statistics, "mode", key_ratio=ratio)
    assert cost_table(statistics, "text_and_vision", key_ratio=0.20)
    with pytest.raises(ImportanceError, match="no output energy"):
        cost_table(statistics, "mode_output", key_ratio=0.20)


def test_a_recording_without_detail_has_all_vision_tokens_as_key(records, tmp_path) -> None:
    for entry in records[0].values():
        del entry["dominant_image"], entry["redundant_image"]
    statistics = import_released(*written(tmp_path, *records), sizes=SIZES)
    found = frequencies(statistics, 1.0)[f"{NAME.format(1)}.experts"]
    np.testing.assert_allclose(found.key, found.vision)


def test_the_run_opens_again(files, tmp_path) -> None:
    _, statistics = import_run(*files, tmp_path / "run", sizes=SIZES)
    opened = Run.open(tmp_path / "run")
    assert opened.state == "done"
    assert opened.statistics.digest() == statistics.digest()
    assert opened.statistics.settings["key_ratios"] == [0.2]
    assert opened.statistics.settings["group_size"] == 64


def test_refusals_name_file_layer_and_field(records, tmp_path) -> None:
    frequency, sensitivity = records

    def refused(match: str, **options) -> None:
        with pytest.raises(ReleasedJsonError, match=match):
            import_released(*written(tmp_path, frequency, sensitivity), **({"sizes": SIZES} | options))

    refused("do not tell the sizes of the experts of 'tiny' with 6 experts", sizes=None)
    with pytest.raises(ReleasedJsonError, match="is this the frequency file"):
        import_released(*reversed(written(tmp_path, frequency, sensitivity)))
    own = sensitivity["sensitivities"][NAME.format(3)]
    del own["4"]["3"]["vision"]
    refused(r"sensitivity\.json, layer .*layers\.3\.mlp, expert 4, 3 bits: no sensitivity to vision")
    del sensitivity["sensitivities"][NAME.format(3)]
    refused(r"has no layer model\.language_model\.layers\.3\.mlp")
    frequency[NAME.format(1)]["dominant_image"][0] = 10_000
    refused("more dominant and redundant image tokens than image tokens")
    frequency[NAME.format(1)]["text"] = [1, 2]
    refused("different lengths")
    del frequency[NAME.format(1)]["text"]
    refused(r"layer .*layers\.1\.mlp: no 'text'")
    (tmp_path / "frequency.json").write_text("{")
    with pytest.raises(ReleasedJsonError, match=r"frequency\.json is not readable as JSON"):
        import_released(tmp_path / "frequency.json", tmp_path / "sensitivity.json")


def test_the_command_line_reads_them_in(files, tmp_path, capsys) -> None:
    from mode_core.cli import main

    command = [
        "import",
        *map(str, files),
        "--out",
        str(tmp_path / "run"),
        "--sizes",
        "64",
        "32",
        "2",
        "--json",
        "--quiet",
    ]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["banks"], told["key_ratio"], told["bits"]) == (2, 0.2, [2, 3, 4])
    assert main(["allocate", "--run", str(tmp_path / "run"), "--average-bits", "3", "--json", "--quiet"]) == 0
