"""What was loaded is what the file says: missing, strange, damaged and FP8 weights, in every way they are stored."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mode_core.models import ModelError, load_model
from mode_core.models.checkpoint_files import CheckpointFiles
from tests.families.making import save_family

LAYER = "model.language_model.layers.2."
BANK = LAYER + "mlp.experts"


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(source: Path, folder: Path, change) -> Path:
    """A copy of a model's folder whose tensors went through `change`, a function of their dictionary."""
    shutil.copytree(source, folder)
    tensors = tensors_of(folder)
    tensors = change(tensors) or tensors
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def with_ties(source: Path, folder: Path, tied: bool) -> Path:
    """A copy without a head of its own, whose configuration says whether it is tied to the embeddings."""
    changed(source, folder, without("lm_head"))
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = tied
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fused experts `[E, 2I, H]` and `[E, H, I]` as one tensor for each expert's matrix."""
    found = {}
    for name, tensor in tensors.items():
        bank, _, part = name.rpartition(".")
        if not bank.endswith(".experts"):
            found[name] = tensor
            continue
        for expert, matrix in enumerate(tensor):
            pieces = (
                zip(("gate_proj", "up_proj"), matrix.chunk(2), strict=True) if part != "down_proj" else [(part, matrix)]
            )
            found |= {f"{bank}.{expert}.{piece}.weight": own for piece, own in pieces}
    return found


def as_model(source: Path) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors with fused experts in the model's own layout `[E, out, in]`."""
    held = tensors_of(source)
    wide, hidden = 48, 64
    turned = {"gate_up_proj": (hidden, wide), "down_proj": (wide // 2, hidden)}
    return {n: t.mT if t.shape[1:] == turned.get(n.rpartition(".")[2]) else t for n, t in held.items()}


def in_fp8(source: Path, folder: Path, separate: bool) -> tuple[Path, dict[str, torch.Tensor]]:
    """Matrices of the language model in blocks of 16 × 16, and what they stand for, by the names in the files."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 16], "fmt": "e4m3",
                                     "modules_to_not_convert": ["lm_head", "model.visual"]}  # fmt: skip
    config["dtype"] = config["text_config"]["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    stored, direct = {}, {}
    for name, tensor in (apart(as_model(source)) if separate else tensors_of(source)).items():
        direct[name] = stored[name] = tensor.bfloat16()
        if "language_model" not in name or "_proj" not in name:
            continue
        rows, columns = tensor.shape[-2:]
        scales = torch.rand(*tensor.shape[:-2], -(-rows // 16), -(-columns // 16)) * 0.01 + 0.01
        each = scales[..., torch.arange(rows) // 16, :][..., torch.arange(columns) // 16]
        stored[name] = (tensor.float() / each).clamp(-448, 448).to(torch.float8_e4m3fn)
        stored[name + "_scale_inv"] = scales
        direct[name] = (stored[name].float() * each).bfloat16()
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors")
    return folder, direct


def expected_matrix(direct: dict[str, torch.Tensor], bank, projection: str, expert: int) -> torch.Tensor:
    """One expert's matrix `[out, in]` out of tensors as the files name them, fused or apart."""
    if (name := f"{bank.name}.{expert}.{projection}_proj.weight") in direct:
        return direct[name]
    side = direct[f"{bank.name}.{'down_proj' if projection == 'down' else 'gate_up_proj'}"][expert]
    rows = bank.hidden if projection == "down" else 2 * bank.intermediate
    side = side if side.shape[0] == rows else side.T
    return side if projection == "down" else side.chunk(2)[projection == "up"]


@pytest.mark.parametrize("separate", [False, True], ids=["fused", "apart"])
def test_fp8_arrives_as_a_direct_dequantization(tiny_model_folder, tmp_path, separate) -> None:
    folder, direct = in_fp8(tiny_model_folder, tmp_path / "model", separate)
    loaded = load_model(folder, device="cpu")
    assert loaded.dtype == torch.bfloat16
    for bank in loaded.banks.values():
        for expert in range(bank.experts):
            for projection in bank.projections:
                expected = expected_matrix(direct, bank, projection, expert)
                assert torch.equal(bank.matrix(projection, expert), expected), (bank.name, expert, projection)
    held = dict(loaded.model.named_parameters())
    assert all(
        torch.equal(held[name], tensor) for name, tensor in direct.items() if name in held and "experts" not in name
    )
    with CheckpointFiles(folder) as files:  # what the streamed path reads
        assert set(files.names) == set(direct)
        assert all(torch.equal(files.read(name), tensor) for name, tensor in direct.items())


def test_experts_apart_are_the_fused_ones(tiny_model_folder, tiny_model, tmp_path) -> None:
    whole = as_model(tiny_model_folder)
    folder = changed(tiny_model_folder, tmp_path / "apart", lambda _: apart(whole))
    loaded = load_model(folder, device="cpu")
    held = dict(tiny_model.model.named_parameters())
    assert all(torch.equal(parameter, held[name]) for name, parameter in loaded.model.named_parameters())


def without(*names: str):
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in names)}


def reshaped(tensors: dict[str, torch.Tensor]) -> None:
    tensors[LAYER + "mlp.gate.weight"] = tensors[LAYER + "mlp.gate.weight"][:-1]


def with_more(name: str):
    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = torch.zeros(4, 4)

    return add


def poisoned(tensors: dict[str, torch.Tensor]) -> None:
    tensors[BANK + ".down_proj"][5, 3, 2] = float("nan")
    tensors[LAYER + "mlp.gate.weight"][0, 0] = float("inf")


def less_one(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = apart(tensors)
    for part in ("gate_proj", "up_proj", "down_proj"):  # as many experts as ever, but one is another's
        found[f"{BANK}.8.{part}.weight"] = found.pop(f"{BANK}.3.{part}.weight")
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without(BANK), rf"2 tensors \({BANK}.down_proj, {BANK}.gate_up_proj\): missing in its weight files\. A conv"),
        (without("mlp.gate.weight"), r"2 tensors \(.*layers.0.mlp.gate.weight, .*\): missing"),
        (without("input_layernorm"), r"3 tensors .*input_layernorm.weight.*: missing"),
        (without("embed_tokens"), r"embed_tokens.weight.*: missing"),
        (without("visual"), r"tensors \(.*visual.* and \d+ more\): missing"),
        (reshaped, r"layers.2.mlp.gate.weight \[7, 64\] \(the model has \[8, 64\]\)\): of another shape"),
        (with_more(f"{BANK}.0.gate_proj.weight"), r"in no place of the model"),
        (with_more(f"{BANK}.w13_weight"), r"w13_weight\): in its weight files, but in no place of the model"),
        (with_more(LAYER + "self_attn.q_proj.bias"), r"q_proj.bias\): in its weight files, but in no place"),
        (with_more("model.language_model.layers.3.mlp.gate.weight"), r"layers.3.mlp.gate.weight\): in its weight"),
        (poisoned, rf"2 tensors \({BANK}.down_proj, expert 5, {LAYER}mlp.gate.weight\): not finite"),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_models(tiny_model_folder, tmp_path, change, words) -> None:
    folder = changed(tiny_model_folder, tmp_path / "model", change)
    with pytest.raises(ModelError, match=words):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (less_one, rf"3 tensors \({BANK}.3.down_proj.weight, .*\): missing"),
        (
            lambda tensors: without(f"{BANK}.3.up_proj")(apart(tensors)),
            rf"1 tensor \({BANK}.3.up_proj.weight\): missing",
        ),
        (lambda tensors: without(f"{BANK}.7.")(apart(tensors)), r"missing in its weight files"),
    ],
)
def test_experts_that_are_not_all_there(tiny_model_folder, tmp_path, change, words) -> None:
    whole = as_model(tiny_model_folder)
    folder = changed(tiny_model_folder, tmp_path / "model", lambda _: change(whole))
    with pytest.raises(ModelError, match=words):
        load_model(folder, device="cpu")


def test_experts_that_transformers_merges_itself_are_counted_too(tmp_path) -> None:
    whole = save_family("mixtral", tmp_path / "whole")
    names = [name for name in tensors_of(whole) if ".experts." in name]
    last = max(int(name.split(".experts.")[1].split(".")[0]) for name in names)
    for number, strange in enumerate((f".experts.{last}.", ".experts.1.w3.")):
        folder = changed(whole, tmp_path / str(number), without(strange))
        with pytest.raises(ModelError, match=r"(missing in its weight files|of another shape)"):
            load_model(folder, device="cpu")


def test_a_head_that_is_declared_untied_must_be_there(tiny_model_folder, tmp_path) -> None:
    loaded = load_model(with_ties(tiny_model_folder, tmp_path / "tied", True), device="cpu")
    assert torch.equal(loaded.model.lm_head.weight, loaded.model.get_input_embeddings().weight)
    with pytest.raises(ModelError, match=r"1 tensor \(lm_head.weight\): missing"):
        load_model(with_ties(tiny_model_folder, tmp_path / "untied", False), device="cpu")


def test_further_networks_beside_the_model_are_no_fault(tmp_path) -> None:
    folder = save_family("qwen3_5_moe", tmp_path / "whole")
    before = load_model(folder, device="cpu")

    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["mtp.fc.weight"] = torch.ones(4, 4)
        tensors["mtp.layers.0.mlp.experts.0.gate_proj.weight"] = torch.zeros(4, 4)

    loaded = load_model(changed(folder, tmp_path / "mtp", add), device="cpu")
    held = dict(before.model.named_parameters())
    assert all(torch.equal(parameter, held[name]) for name, parameter in loaded.model.named_parameters())


def test_they_need_no_word_of_the_architecture(tmp_path) -> None:
    add = with_more("mtp.layers.0.self_attn.q_proj.weight")
    load_model(changed(save_family("mixtral", tmp_path / "whole"), tmp_path / "mtp", add), device="cpu")


def test_layers_that_predict_further_tokens_are_those_that_the_configuration_declares(tmp_path) -> None:
    whole = save_family("mixtral", tmp_path / "whole")
    layers = json.loads((whole / "config.json").read_text())["num_hidden_layers"]
    folder = changed(whole, tmp_path / "more", with_more(f"model.layers.{layers}.mlp.gate.weight"))
    with pytest.raises(ModelError, match=rf"layers.{layers}.mlp.gate.weight\): in its weight files"):
        load_model(folder, device="cpu")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    load_model(folder, device="cpu")


def test_weights_on_disk_are_checked_on_their_way(tiny_model_folder, tmp_path) -> None:
    folder = changed(tiny_model_folder, tmp_path / "model", poisoned)
    with pytest.raises(ModelError, match="not finite"):
        load_model(folder, max_memory="100KB", offload_folder=tmp_path / "disk")
    folder = changed(tiny_model_folder, tmp_path / "missing", without(BANK))
    with pytest.raises(ModelError, match=r"2 tensors .*: missing"):
        load_model(folder, max_memory="100KB", offload_folder=tmp_path / "disk2")


def test_other_tools_files_beside_are_not_read(tiny_model_folder, tiny_model, tmp_path) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"}))
    save_file({"base_model.x.lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
    save_file({"layers.0.experts.0.w1": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    (folder / "optimizer.pt").write_bytes(b"never opened")
    loaded = load_model(folder, device="cpu")
    assert loaded.revision == tiny_model.revision


def test_a_snapshot_of_the_hub_is_called_by_its_model(tiny_model_folder, tmp_path) -> None:
    store = tmp_path / "models--Qwen--Qwen3-VL-30B-A3B-Instruct"
    snapshot = store / "snapshots" / "9c4b90e1e4ba969fd3b5378b57d966d725f1b86c"
    snapshot.mkdir(parents=True)
    (store / "blobs").mkdir()
    for path in tiny_model_folder.iterdir():
        shutil.copy(path, store / "blobs" / path.name)
        (snapshot / path.name).symlink_to(store / "blobs" / path.name)
    assert load_model(snapshot, device="cpu").name == "Qwen/Qwen3-VL-30B-A3B-Instruct"
