"""Every kind of family (native, text only, code of its own, past the experts interface) can do what is advertised:
calibrate, budget the whole model, fit a card, evaluate, and export a folder piece by piece."""

import json

import pytest

from mode_core.cli.main import main
from mode_core.memory import kv_cache_bytes
from mode_core.models import load_model
from mode_core.models.outline import configuration
from mode_core.quantization import rest_bytes
from tests.families.making import save_family

KINDS = {"native": "qwen3_5_moe", "text only": "mixtral", "remote code": "kimi_vl", "adapter": "llama4"}


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    """A saved model, a run of two text samples on it, and the switch that its code needs."""
    folder = tmp_path_factory.mktemp("kind")
    saved, trust = save_family(KINDS[request.param], folder / "model"), request.param == "remote code"
    lines = [{"id": text, "text": text, "answer": "yes", "images": []} for text in ("is it red ?", "what colour ?")]
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    switch = ["--trust-remote-code"] if trust else []
    samples = ["--samples", str(folder / "samples.jsonl")]
    quick = ["--no-sensitivity", "--exemplars", "0", "--quiet"]
    assert main(["calibrate", "--model", str(saved), *samples, "--out", str(folder / "run"), *quick, *switch]) == 0
    return folder, saved, switch, samples


def test_the_whole_model_has_a_budget_and_a_card(case, capsys) -> None:
    folder, saved, switch, _ = case
    loaded = load_model(saved, device="cpu", trust_remote_code=bool(switch))
    rest = rest_bytes(loaded)
    assert rest_bytes(saved, trust_remote_code=bool(switch)) == rest
    assert kv_cache_bytes(configuration(str(saved), bool(switch)), 100) == kv_cache_bytes(loaded.model.config, 100) > 0
    budget = ["--model-mb", str(rest / 1e6 + 1), "--method", "frequency", "--json", "--quiet"]
    capsys.readouterr()
    assert main(["allocate", "--run", str(folder / "run"), *budget, *switch]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_beside_the_experts"] == rest


def test_it_is_evaluated(case, capsys) -> None:
    folder, _, switch, samples = case
    capsys.readouterr()
    grid = ["--uniform", "4", "--group-size", "16", "--json", "--quiet"]
    assert main(["evaluate", "--run", str(folder / "run"), *samples, *grid, *switch]) == 0
    assert json.loads(capsys.readouterr().out)["kl"] >= 0


def test_its_folder_is_exported_piece_by_piece(case) -> None:
    folder, _, switch, _ = case
    if switch:
        pytest.skip("exports of models with code of their own have a test with the exports")
    run = str(folder / "run")
    assert main(["allocate", "--run", run, "--method", "frequency", "--name", "three", "--quiet"]) == 0
    target = ["--target", "dequantized", "--stream", "--out", str(folder / "out"), "--group-size", "16", "--quiet"]
    assert main(["export", "--run", run, "--allocation", "three", *target]) == 0
    assert load_model(folder / "out", device="cpu").banks
