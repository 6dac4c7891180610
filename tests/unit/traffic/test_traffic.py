"""Traces as vLLM's and SGLang's sources write them: counted by hand, applied, refused in words."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mode_core.cli import main
from mode_core.errors import ImportanceError, SettingsError
from mode_core.importance import cost_table, frequencies
from mode_core.request import AllocationRequest
from mode_core.run import Run
from mode_core.statistics import BankShape, BankStatistics, ExpertStatistics
from mode_core.traffic import TrafficError, distances, never_calibrated, read_traffic, with_traffic
from tests.conftest import BUNDLED

PICTURE, VOCABULARY = 6, 100
LAYERS = (1, 3)  # those of four that have experts


@pytest.fixture
def statistics() -> ExpertStatistics:
    """Two banks of four experts, top-2; calibration never saw expert 3."""
    banks = {}
    for layer in LAYERS:
        bank = BankStatistics.empty(f"layers.{layer}.mlp.experts", BankShape(layer, 4, 8, 8, 2), (2,), ("s",))
        bank.arrays["text_selections"][0] = [5, 3, 2, 0]
        bank.arrays["vision_selections/s"][0, :3, 0] = [1, 1, 2]
        bank.arrays["vision_tokens/s"][0, 0] = 2
        banks[bank.name] = bank
    return ExpertStatistics(banks, (2,), ("s",))


def drawn(tokens: int, layers: int = 2, seed: int = 0) -> np.ndarray:
    """Two different experts a token and layer, `[tokens, layers, 2]`."""
    return np.random.default_rng(seed).random((tokens, layers, 4)).argsort(axis=-1)[..., :2]


def npy(chosen: np.ndarray) -> str:
    """vLLM's form: base64 of what `numpy.save` writes."""
    held = io.BytesIO()
    np.save(held, chosen)
    return base64.b64encode(held.getvalue()).decode()


def lines(path: Path, *responses: dict) -> Path:
    path.write_text("\n".join(map(json.dumps, responses)))
    return path


def counted(chosen: np.ndarray, rows) -> list[list[int]]:
    """Selections by a plain loop: `[layers][experts]`."""
    found = [[0] * 4 for _ in range(chosen.shape[1])]
    for row in rows:
        for layer in range(chosen.shape[1]):
            for expert in chosen[row, layer]:
                found[layer][expert] += 1
    return found


def test_vllm_kinds_are_told_by_the_prompts_ids_and_cached_tokens_left_out(tmp_path, statistics):
    chosen, prompt = drawn(6), [1, PICTURE, PICTURE, 9]  # 4 tokens of the prompt, 3 written: 6 rows
    cached = chosen.astype(np.int16)
    cached[0] = -1
    path = lines(
        tmp_path / "served.jsonl",
        {"prompt_token_ids": prompt, "choices": [{"routed_experts": npy(chosen.astype(np.uint8))}]},
        {"choices": [{"prompt_token_ids": prompt, "routed_experts": npy(cached)}]},
    )
    found = read_traffic(path, statistics, (PICTURE,), VOCABULARY)
    assert found.told and found.requests == 2 and found.tokens == {"text": 7, "vision": 4}
    assert found.text.tolist() == counted(chosen, [0, 3, 4, 5, 3, 4, 5])
    assert found.vision.tolist() == counted(chosen, [1, 2, 1, 2])
    one_kind = read_traffic(path, statistics)
    assert not one_kind.told and one_kind.text.tolist() == counted(chosen, [*range(6), *range(1, 6)])
    assert (one_kind.text == one_kind.vision).all()


def test_sglang_has_all_layers_flat_and_pictures_above_the_vocabulary(tmp_path, statistics):
    chosen = drawn(5, layers=4)
    flat = base64.b64encode(chosen.astype("<i4").tobytes()).decode()
    meta = {"routed_experts": flat, "prompt_tokens": 4, "completion_tokens": 2}
    path = lines(tmp_path / "served.jsonl", {"input_ids": [1, VOCABULARY + 7, PICTURE, 2], "meta_info": meta})
    found = read_traffic(path, statistics, (PICTURE,), VOCABULARY)
    assert found.vision.tolist() == counted(chosen[:, LAYERS], [1, 2])
    assert found.text.tolist() == counted(chosen[:, LAYERS], [0, 3, 4])


def test_sglangs_recorder_by_pass_and_by_token(tmp_path, statistics):
    counts = np.random.default_rng(1).integers(0, 9, (3, 4, 4))  # buffered passes, layers, experts
    torch.save({"rank": 0, "logical_count": torch.tensor(counts)}, tmp_path / "stat.pt")
    found = read_traffic(tmp_path / "stat.pt", statistics)
    assert not found.told and (found.text == counts.sum(axis=0)[list(LAYERS)]).all()
    chosen, copies = drawn(3, layers=4), np.array([0, 1, 2, 3, 3])  # expert 3 lies in two places
    physical = np.full((4, 3, 8), -1)
    physical[..., :2] = chosen.transpose(1, 0, 2)
    physical[:, 1:][physical[:, 1:] == 3] = 4
    record = {"input_ids": [1, PICTURE, 2], "topk_ids_of_layer": torch.tensor(physical, dtype=torch.int32)}
    held = {"records": [record], "last_physical_to_logical_map": torch.tensor(copies).expand(4, 5)}
    torch.save(held, tmp_path / "token.pt")
    found = read_traffic(tmp_path / "token.pt", statistics, (PICTURE,), VOCABULARY)
    assert found.text.tolist() == counted(chosen[:, LAYERS], [0, 2])
    assert found.vision.tolist() == counted(chosen[:, LAYERS], [1])
    by_pass = np.array([[2, 0, 1, 4, 3]] * 4)
    torch.save(held | {"records": [{"global_physical_count": torch.tensor(by_pass)}]}, tmp_path / "pass.pt")
    assert read_traffic(tmp_path / "pass.pt", statistics).text.tolist() == [[2, 0, 1, 7]] * 2


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("{", r"line 1 is no JSON"),
        ([1], r"line 1 is no JSON object"),
        (
            {"choices": [{"text": "hello"}]},
            r"holds no routed experts.*ask the engine for them with return_routed_experts",
        ),
        ({"routed_experts": "no base64"}, r"line 1: 'routed_experts' cannot be read"),
        ({"routed_experts": npy(drawn(3) + 2)}, r"expert 5; the run's banks have 4, counted from 0. Is it a trace"),
        ({"routed_experts": npy(drawn(3, layers=3))}, r"3 layers; the run has 2 banks, in layers up to 3"),
        (
            {"routed_experts": npy(drawn(3)[..., :1])},
            r"is int64 \[3, 2, 1\]; expected whole numbers \[tokens, layers, 2\]",
        ),
        ({"routed_experts": npy(np.array([Evil()], dtype=object))}, r"'routed_experts' cannot be read \(.*pickle"),
        ({"routed_experts": base64.b64encode(b"1234").decode()}, r"lacks prompt_tokens or completion_tokens"),
        (
            {"routed_experts": base64.b64encode(b"12345678").decode(), "prompt_tokens": 3, "completion_tokens": 1},
            r"2 routed experts are no whole layers of 3 tokens with 2 each",
        ),
    ],
)
def test_what_is_no_trace_of_the_model_is_refused(tmp_path, statistics, response, said):
    path = tmp_path / "served.jsonl"
    path.write_text(response if isinstance(response, str) else json.dumps(response))
    with pytest.raises(TrafficError, match=said):
        read_traffic(path, statistics)


def test_a_recorders_file_is_never_unpickled(tmp_path, statistics, capsys):
    torch.save({"logical_count": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(TrafficError, match="is no file of numbers and tensors alone"):
        read_traffic(tmp_path / "evil.pt", statistics)
    assert "run" not in capsys.readouterr().out


def test_traffic_is_the_new_frequency_and_its_distance_is_worked_by_hand(tmp_path, statistics):
    chosen = np.full((4, 2, 2), (3, 0))
    body = {"prompt_token_ids": [PICTURE, 1], "routed_experts": npy(chosen)}
    found = read_traffic(lines(tmp_path / "served.jsonl", body), statistics, (PICTURE,))
    served = with_traffic(statistics, found)
    for one in frequencies(served, key_ratio=0.2, signal="s").values():
        assert one.text.tolist() == one.key.tolist() == one.vision.tolist() == [0.5, 0, 0, 0.5]
    name = f"layers.{LAYERS[0]}.mlp.experts"
    assert served.banks[name].arrays["text_error"] is statistics.banks[name].arrays["text_error"]
    p, q = np.array([6, 4, 4, 0]) / 14, np.array([0.5, 0, 0, 0.5])
    mean = (p + q) / 2
    halves = [sum(a * np.log2(a / b) for a, b in zip(one, mean, strict=True) if a) / 2 for one in (p, q)]
    assert distances(statistics, found)[name] == pytest.approx(sum(halves) ** 0.5)
    assert never_calibrated(statistics, found) == {f"layers.{layer}.mlp.experts": [3] for layer in LAYERS}
    no_pictures = read_traffic(lines(tmp_path / "text.jsonl", body | {"prompt_token_ids": [1]}), statistics, (PICTURE,))
    asked = AllocationRequest(widths=(2,), signal="s").fitted(with_traffic(statistics, no_pictures))
    with pytest.raises(ImportanceError, match=r"holds no vision tokens.*\(--vision-weight\) to 0"):
        asked.costs(with_traffic(statistics, no_pictures))
    assert replace(asked, vision_weight=0).costs(with_traffic(statistics, no_pictures))
    with pytest.raises(SettingsError, match=f"profile {asked.traffic}, and these statistics hold those of calibration"):
        asked.costs(statistics)


def test_a_kept_profile_reads_back_for_its_own_model_alone(tmp_path, statistics):
    body = {"prompt_token_ids": [PICTURE, 1], "routed_experts": npy(np.full((4, 2, 2), (3, 0)))}
    found = read_traffic(lines(tmp_path / "served.jsonl", body), statistics, (PICTURE,))
    found.save(tmp_path / "kept.json")
    again = read_traffic(tmp_path / "kept.json", statistics)
    assert (again.digest, again.name, again.tokens) == (found.digest, "served.jsonl", found.tokens)
    assert (again.text == found.text).all() and (again.vision == found.vision).all() and again.told
    with pytest.raises(TrafficError, match=r"kept.json was counted on an unnamed model, and this run is of other"):
        read_traffic(tmp_path / "kept.json", replace(statistics, settings={"model": "other"}))
    record = json.loads((tmp_path / "kept.json").read_text())
    for wrong, said in ({"text": [[1.0]]}, "text: it needs 4 counts"), ({"told": 1}, "told: input should be"), (
        {"format": "mode-traffic/9"}, "has the format mode-traffic/9; this version reads"
    ):  # fmt: skip
        (tmp_path / "odd.json").write_text(json.dumps(record | wrong))
        with pytest.raises(TrafficError, match=f"odd.json.*{said}"):
            read_traffic(tmp_path / "odd.json", statistics)


def test_an_expert_that_calibration_never_saw_costs_by_how_often_it_is_served(tmp_path):
    whole = Run.open(BUNDLED / "run").statistics
    name, bank = next(iter(whole.banks.items()))
    arrays = {key: array.copy() for key, array in bank.arrays.items()}
    for key, array in arrays.items():
        if key.split("/")[0].endswith(("selections", "support", "error", "weight")) and not key.startswith("weight"):
            array[:, 5] = 0
    whole = replace(whole, banks=dict(whole.banks) | {name: replace(bank, arrays=arrays)})
    costs = []
    for rows in (10, 20):  # of 40 tokens
        chosen = np.tile((1, 2), (40, len(whole.banks), 1))
        chosen[:rows, :, 0] = 5
        path = lines(tmp_path / f"{rows}.jsonl", {"routed_experts": npy(chosen)})
        found = read_traffic(path, whole)
        assert never_calibrated(whole, found)[name] == [5]
        costs.append(cost_table(with_traffic(whole, found), "mode")[name][5])
    assert (costs[0] > 0).all()
    np.testing.assert_allclose(costs[1], 2 * costs[0])


def test_the_command_line_allocates_by_what_was_served(tmp_path, capsys):
    banks = list(Run.open(BUNDLED / "run").statistics)
    draw = np.random.default_rng(0)
    chosen = draw.random((40, len(banks), 4)).argsort(axis=-1)[..., : banks[0].shape.top_k]  # four experts alone
    path = lines(tmp_path / "served.jsonl", {"routed_experts": npy(chosen.astype(np.uint8))})

    def allocated(*more: str) -> dict:
        command = ["allocate", "--run", str(BUNDLED / "run"), "--out", str(tmp_path / "bits.json"), "--json"]
        assert main([*command, *more]) == 0
        return json.loads(capsys.readouterr().out) | json.loads((tmp_path / "bits.json").read_text())

    plain, served = allocated(), allocated("--traffic", str(path))
    assert plain["bits"] != served["bits"] and served["settings"]["traffic"] == str(path)
    assert len(served["settings"]["request"]["traffic"]) == 12
    told = served["traffic"]
    assert told["tokens"] == {"all": 40} and told["kinds"].startswith("all tokens as one kind")
    assert all(0.5 < distance < 1 for distance in told["distance_to_calibration"].values())
    for bank in served["bits"].values():
        assert np.mean(bank[:4]) > np.mean(bank[4:])
    refused = ["allocate", "--run", str(BUNDLED / "run"), "--method", "sensitivity_only", "--traffic", str(path)]
    assert main(refused) == 1
    assert "sensitivity_only does not look at frequencies, so traffic changes nothing" in capsys.readouterr().err
