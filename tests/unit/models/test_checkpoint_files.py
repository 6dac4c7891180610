"""Which files of a folder are the model, what their tensors are, and what is said where they are not."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mode_core.models import ModelError
from mode_core.models.checkpoint_files import INDEX, CheckpointFiles

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665cb4b\nsize 4997750760\n"
FP8 = {"quant_method": "fp8", "weight_block_size": [4, 3]}


def save(folder, file: str, **tensors: torch.Tensor) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    save_file({name.replace("__", "."): tensor for name, tensor in tensors.items()}, str(folder / file))


def configured(folder, **more: object) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl_moe", "dtype": "bfloat16"} | more))


def indexed(folder, places: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def scaled(shape: tuple[int, ...], block=(4, 3), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """FP8 numbers, a scale for every block, and what they stand for: every number with its own block's scale."""
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=draw).to(torch.float8_e4m3fn)
    grid = (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))
    scales = torch.rand(grid, generator=draw) + 0.5
    direct = torch.zeros(shape)
    for row in range(shape[-2]):
        for column in range(shape[-1]):
            scale = scales[..., row // block[0], column // block[1]]
            direct[..., row, column] = numbers[..., row, column].float() * scale
    return numbers, scales, direct.bfloat16()


def test_the_files_of_the_model_and_no_others(tmp_path) -> None:
    configured(tmp_path)
    save(tmp_path, "model-00001-of-00002.safetensors", a__weight=torch.ones(2, 3))
    save(tmp_path, "model-00002-of-00002.safetensors", b__weight=torch.zeros(4).half())
    for other in ("consolidated.safetensors", "adapter_model.safetensors", "optimizer.safetensors"):
        save(tmp_path, other, a__weight=torch.full((9,), 9.0))
    for name in ("optimizer.pt", "adapter_config.json", "trainer_state.json", "training.json", "params.json",
                 "README.md", "manifest.json", "configuration_own.py", "tokenizer.json", "tokenizer_config.json",
                 "chat_template.jinja", "preprocessor_config.json", "video_preprocessor_config.json", "merges.txt",
                 "generation_config.json", "tokenizer.model", "chat_template.json",
                 "special_tokens_map.json"):  # fmt: skip
        (tmp_path / name).write_text("{}")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tools.jinja").write_text("")
    with CheckpointFiles(tmp_path) as files:  # a whole set of shards needs no index
        assert [path.name for path in files.weight_files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
        assert files.names == ("a.weight", "b.weight")
        assert files.shape("a.weight") == (2, 3) and files.dtype("b.weight") == torch.float16
        assert torch.equal(files.read("a.weight", 1, 2), torch.ones(1, 3))
        assert {path.relative_to(tmp_path).as_posix() for path in files.companions} == {
            "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json", "merges.txt",
            "video_preprocessor_config.json", "generation_config.json", "tokenizer.model", "chat_template.json",
            "special_tokens_map.json", "additional_chat_templates/tools.jinja",
        }  # fmt: skip
    configured(tmp_path, auto_map={"AutoConfig": "configuration_own.Own"})
    assert "configuration_own.py" in {path.name for path in CheckpointFiles(tmp_path).companions}


def test_an_index_names_the_shards_whatever_they_are_called(tmp_path) -> None:
    save(tmp_path, "part-a.safetensors", a=torch.ones(1), b=torch.ones(1))
    save(tmp_path, "part-b.safetensors", b=torch.zeros(1))
    indexed(tmp_path, {"a": "part-a.safetensors", "b": "part-b.safetensors"})
    files = CheckpointFiles(tmp_path)
    assert files.read("b").item() == 0.0 and files.names == ("a", "b")


def test_the_revision_follows_what_is_read(tmp_path) -> None:
    configured(tmp_path)
    save(tmp_path, "model.safetensors", a=torch.ones(4))
    first = CheckpointFiles(tmp_path).revision()
    save(tmp_path, "consolidated.safetensors", a=torch.ones(4))
    (tmp_path / "tokenizer.json").write_text("{}")
    assert CheckpointFiles(tmp_path).revision() == first
    save(tmp_path, "model.safetensors", a=torch.zeros(4))
    assert CheckpointFiles(tmp_path).revision() != first


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/etc/model.safetensors", "names '/etc/model.safetensors', which is no file beside it"),
        ("../model.safetensors", "no file beside it"),
        ("..\\model.safetensors", "no file beside it"),
        ("pytorch_model.bin", "which is no safetensors file"),
        (7, "names 7, which is no file beside it"),
        ("model-00002-of-00002.safetensors", r"lacks the shard model-00002-of-00002.safetensors .*1 of 2 are not"),
        ("model-00001-of-00002.safetensors", r"lacks b, which model.safetensors.index.json looks for there"),
    ],
)
def test_an_index_that_is_wrong(tmp_path, place, words) -> None:
    save(tmp_path, "model-00001-of-00002.safetensors", a=torch.ones(1))
    indexed(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": place})
    with pytest.raises(ModelError, match=words):
        CheckpointFiles(tmp_path)


def test_indexes_that_are_none(tmp_path) -> None:
    save(tmp_path, "model-00001-of-00002.safetensors", a=torch.ones(1))
    with pytest.raises(ModelError, match=r"holds 1 of 2 shards and no model\.safetensors\.index\.json"):
        CheckpointFiles(tmp_path)
    for text, words in (("[]", "names no tensors"), ("{", "cannot be read as JSON"), (POINTER, "is a Git-LFS pointer")):
        (tmp_path / INDEX).write_text(text)
        with pytest.raises(ModelError, match=words):
            CheckpointFiles(tmp_path)
    save(tmp_path, "model.safetensors", a=torch.ones(1))
    indexed(tmp_path, {"a": "model-00001-of-00002.safetensors"})
    with pytest.raises(ModelError, match=r"holds model\.safetensors beside an index of other files"):
        CheckpointFiles(tmp_path)
    (tmp_path / INDEX).unlink()
    (tmp_path / "model.safetensors").write_text(POINTER)
    with pytest.raises(ModelError, match=r"Git-LFS pointer, not the file itself.*'git lfs pull'"):
        CheckpointFiles(tmp_path)


@pytest.mark.parametrize("shape", [(9, 7), (3, 8, 7), (3, 4, 3)])
def test_fp8_is_each_number_times_its_own_blocks_scale(tmp_path, shape) -> None:
    configured(tmp_path, quantization_config=FP8)
    numbers, scales, direct = scaled(shape)
    save(tmp_path, "model.safetensors", x__weight=numbers, x__weight_scale_inv=scales, y=torch.ones(2))
    files = CheckpointFiles(tmp_path)
    assert set(files.names) == {"x.weight", "y"} and files.dtype("x.weight") == torch.bfloat16
    assert torch.equal(files.read("x.weight"), direct)
    for first, last in ((0, 2), (1, 3), (2, shape[0])):
        assert torch.equal(files.read("x.weight", first, last), direct[first:last])


def test_fp8_of_parts_of_the_configuration_and_of_other_scales(tmp_path) -> None:
    configured(tmp_path, dtype="float32", text_config={"quantization_config": FP8})
    numbers = scaled((4, 6))[0]
    exponents = torch.tensor([[126, 128]], dtype=torch.uint8)  # a half, and two
    save(
        tmp_path,
        "model.safetensors",
        a=numbers,
        a_scale_inv=torch.tensor(0.5),
        b=numbers.clone(),
        b_scale_inv=exponents,
    )
    files = CheckpointFiles(tmp_path)
    assert torch.equal(files.read("a"), numbers.float() * 0.5)
    assert torch.equal(files.read("b"), numbers.float() * torch.tensor([0.5, 0.5, 0.5, 2.0, 2.0, 2.0]))


def test_fp8_without_scales_that_are_understood(tmp_path) -> None:
    configured(tmp_path, quantization_config=FP8)
    numbers, scales, _ = scaled((9, 7))
    save(tmp_path, "model.safetensors", a__weight=numbers)
    with pytest.raises(ModelError, match=r"a.weight is stored in 8 bits \(F8_E4M3\) without scales"):
        CheckpointFiles(tmp_path)
    save(tmp_path, "model.safetensors", a__weight=numbers, a__weight_scale_inv=scales[:, :2].contiguous())
    with pytest.raises(ModelError, match=r"has \[3, 2\] scales; blocks of 4 × 3 need \[3, 3\]"):
        CheckpointFiles(tmp_path)
