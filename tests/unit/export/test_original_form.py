"""An export opens where the original opened: companions, configuration, names, layout and types are the source's."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mode_core.export import TARGETS, ExportError, export
from mode_core.export.naming import model_names
from mode_core.export.published_forms import PUBLISHED
from mode_core.models import ModelError
from mode_core.quantization import quantize_experts
from tests import published
from tests.conftest import ROOT, packable_allocation

GRID = {"group_size": 32}
UNIFORM = ("compressed_tensors", "mlx")  # targets with one width for a layer or its projection
CHECKPOINTS = [  # no GGUF file, and none with fewer experts
    name for name, one in TARGETS.items() if one.needs_model and one.fit is None and not one.reroutes
]


@pytest.fixture(scope="session")
def folders(bundled_model, tmp_path_factory) -> dict[str, Path]:
    """The bundled model as transformers 5 saves it, and as it would lie on the hub, in two forms."""
    place = tmp_path_factory.mktemp("published")
    resaved = published.resaved(bundled_model, place / "resaved")
    hub, shards = published.as_on_the_hub(resaved, place / "hub"), published.in_shards(resaved, place / "shards")
    return {"resaved": resaved, "hub": hub, "shards": shards}


@pytest.fixture(scope="session")
def loaded(folders) -> dict:
    from mode_core.models import load_model

    return {name: load_model(folder, device="cpu") for name, folder in folders.items()}


def allocation_for(model, target: str):
    if target not in UNIFORM:
        return packable_allocation(model, (2, 3, 4, 16) if target != "gptqmodel" else (2, 3, 4, 8, 16))
    chosen = packable_allocation(model, (3, 4), by_projection=False)
    return type(chosen)(
        {name: bits * 0 + 4 for name, bits in chosen.bits.items()}, (4,), 0, 0, False, 0, 4, unit="layer"
    )


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("model*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("target", CHECKPOINTS)
def test_all_but_the_experts_is_as_it_was(folders, loaded, tmp_path, target) -> None:
    source, model = folders["hub"], loaded["hub"]
    result = export(target, allocation_for(model, target), tmp_path / "out", loaded=model, **GRID)
    out = tmp_path / "out"
    own = {"config.json", "model.safetensors", *published.STRANGERS}
    companions = {path.name for path in source.iterdir()} - own
    assert {"preprocessor_config.json", "chat_template.json", "tokenizer_config.json", "LICENSE"} <= companions
    for name in companions:
        assert (out / name).read_bytes() == (source / name).read_bytes(), name
    added = {"README.md", "manifest.json", "quantize_config.json"}
    assert {path.name for path in out.iterdir()} <= companions | {"config.json", "model.safetensors"} | added
    config, before = (json.loads((place / "config.json").read_text()) for place in (out, source))
    for name in ("quantization_config", "quantization"):
        config.pop(name, None)
    if target == "mlx":  # which looks for some settings elsewhere, and for none less
        for part in ("text_config", "vision_config"):
            added, kept = ({k: v for k, v in c.pop(part).items() if k != "model_type"} for c in (config, before))
            assert added | kept == added and set(added) - set(kept) <= {"tie_word_embeddings"}
    assert config == before
    written, stored = tensors_of(out), load_file(source / "model.safetensors")
    for name, tensor in stored.items():
        if ".experts." not in name:
            assert torch.equal(written[name], tensor), name
    assert not [note for note in result.manifest["notes"] if "transformers 5" in note]


@pytest.mark.parametrize("target", CHECKPOINTS)
@pytest.mark.parametrize("form", ["resaved", "hub"])
def test_a_loaded_model_and_its_folder_give_the_same_files(folders, loaded, tmp_path, target, form) -> None:
    options = GRID | {"quantizer": {"attention_bits": 4}, "shard_bytes": 1_000_000}
    allocation = allocation_for(loaded[form], target)
    export(target, allocation, tmp_path / "whole", loaded=loaded[form], **options)
    export(target, allocation, tmp_path / "read", checkpoint=folders[form], **options)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "read").iterdir())
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    for name in names:
        if name not in ("manifest.json", "README.md"):  # these name the time, and the source's revision
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "read" / name).read_bytes(), name
    attention = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(tensors_of(tmp_path / "read")[attention], tensors_of(folders[form])[attention])


def lines_of(folder: Path) -> str:
    """The lines of a written README."""
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert lines.splitlines() == json.loads((folder / "manifest.json").read_text())["load"]["lines"]
    assert len(lines.splitlines()) == 3
    return lines


@pytest.mark.parametrize("form", ["resaved", "hub", "shards"])
def test_the_readme_s_lines_open_the_plain_checkpoint(
    folders, loaded, tiny_samples, tmp_path, monkeypatch, form
) -> None:
    model, out = loaded[form], tmp_path / "out"
    allocation = allocation_for(model, "dequantized")
    export("dequantized", allocation, out, loaded=model, **GRID)
    opened: dict = {}
    with monkeypatch.context() as patch:
        patch.chdir(out)
        exec(lines_of(out), opened)
    given = model.encode(tiny_samples[:2], padding_side="left").inputs
    turns = [sample.prompt() for sample in tiny_samples[:2]]
    with torch.no_grad(), quantize_experts(model, allocation, **GRID):
        ours = model.model(**given).logits
        theirs = opened["model"].eval()(**given).logits
        for name, parameter in model.model.named_parameters():
            assert torch.equal(parameter, opened["model"].get_parameter(name)), name
    assert torch.equal(ours, theirs)
    text = [p.apply_chat_template(turns[0], add_generation_prompt=True) for p in (model.processor, opened["processor"])]
    assert text[0] == text[1]


# In a process of its own: auto-round changes how transformers reads this family for the rest of the process.
RUN_README = """
import os, re, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
found, ids = {}, torch.arange(10, 40)[None]
for folder in sys.argv[2:]:
    os.chdir(folder)
    exec(re.search(r"```python\\n(.*?)```", Path("README.md").read_text(), re.DOTALL)[1])
    with torch.no_grad():
        found[folder] = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    assert processor.tokenizer.vocab_size > 100
save_file(found, sys.argv[1])
"""


def test_the_readme_s_lines_open_auto_round_s_checkpoint(loaded, tmp_path, forks) -> None:
    pytest.importorskip("auto_round", reason="the optional package auto-round is not installed")
    allocation = allocation_for(loaded["hub"], "auto_round")
    folders = {form: tmp_path / form for form in ("hub", "resaved")}
    for form, folder in folders.items():
        export("auto_round", allocation, folder, loaded=loaded[form], **GRID)
        lines_of(folder)
    forks.run(RUN_README, tmp_path / "found.safetensors", *folders.values())
    found, ids = load_file(tmp_path / "found.safetensors"), torch.arange(10, 40)[None]
    model = loaded["hub"].model
    with torch.no_grad():
        plain = model(input_ids=ids).logits.float()
        with quantize_experts(loaded["hub"], allocation, **GRID):
            ours = model(input_ids=ids).logits.float()
    one, other = (found[str(folder)] for folder in folders.values())
    assert torch.equal(one, other)
    away, damage = (one - ours).abs().mean(), (plain - ours).abs().mean()
    print(f"on average {away:.4f} away; quantizing changed logits by {damage:.3f}")
    assert away < 0.2 * damage  # in bfloat16, in which auto-round rounds weights once more and sums in another order


def test_a_folder_that_transformers_5_saved_is_written_as_published(folders, loaded, tmp_path) -> None:
    allocation = allocation_for(loaded["resaved"], "dequantized")
    result = export("dequantized", allocation, tmp_path / "out", loaded=loaded["resaved"], **GRID)
    export("dequantized", allocation, tmp_path / "hub", loaded=loaded["hub"], **GRID)
    written, hub = tensors_of(tmp_path / "out"), tensors_of(tmp_path / "hub")
    assert written.keys() == hub.keys()
    assert all(torch.equal(written[name], hub[name]) for name in hub)
    name = "model.language_model.layers.0.mlp.experts.gate_up_proj"
    assert tuple(written[name].shape) == (32, 128, 64)  # [experts, hidden, 2 × intermediate], as on the hub
    text = json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]
    before = json.loads((folders["resaved"] / "config.json").read_text())["text_config"]
    assert text == before | {"norm_topk_prob": True}
    (note,) = result.manifest["notes"]
    assert note.startswith("The source was saved by transformers 5") and "Qwen/Qwen3-VL-30B-A3B-Instruct" in note


def test_where_shapes_do_not_tell_the_layouts_apart_the_source_s_stays(tmp_path) -> None:
    """transformers turns what has the other shape: matrices that are square would be read the wrong way round."""
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    from mode_core.models import load_model
    from tests.conftest import EYES, SPECIAL, TEXT, tiny_processor

    text = TEXT | {"moe_intermediate_size": 32, "hidden_size": 64, "num_hidden_layers": 1, "mlp_only_layers": []}
    tokens = {f"{kind}_token_id": SPECIAL.index(f"<|{kind}_pad|>") for kind in ("image", "video")}
    config = Qwen3VLMoeConfig(text_config=text, vision_config=EYES, **tokens)
    Qwen3VLMoeForConditionalGeneration(config).bfloat16().save_pretrained(tmp_path / "source")
    tiny_processor().save_pretrained(tmp_path / "source")
    model = load_model(tmp_path / "source", device="cpu")
    allocation = packable_allocation(model, (3, 4))
    result = export("dequantized", allocation, tmp_path / "out", loaded=model, **GRID)
    assert result.manifest["notes"] == []
    opened = load_model(tmp_path / "out", device="cpu").model
    with quantize_experts(model, allocation, **GRID):
        for name, tensor in model.model.state_dict().items():
            assert torch.equal(tensor, opened.state_dict()[name]), name


def test_the_table_of_turned_families_is_that_of_transformers() -> None:
    from transformers.conversion_mapping import _build_checkpoint_conversion_mapping
    from transformers.core_model_loading import Transpose, WeightConverter

    turned = {
        family
        for family, entries in _build_checkpoint_conversion_mapping().items()
        for entry in entries
        if isinstance(entry, WeightConverter)
        for step in entry.operations
        if isinstance(step, Transpose) and step.check_dims
    }
    assert turned == set(PUBLISHED)


@pytest.mark.parametrize("form", ["apart", "fp8"])
def test_experts_apart_are_written_as_published_so_that_stock_transformers_reads_them(
    folders, loaded, tiny_samples, tmp_path, monkeypatch, form
) -> None:
    """transformers has fused experts in this family, and starts experts by other names at random."""
    source = (published.in_fp8 if form == "fp8" else published.with_experts_apart)(
        folders["resaved"], tmp_path / "source"
    )
    allocation = allocation_for(loaded["hub"], "dequantized")
    from mode_core.models import load_model

    model = load_model(source, device="cpu")
    result = export("dequantized", allocation, tmp_path / "out", checkpoint=source, **GRID)
    export("dequantized", allocation, tmp_path / "whole", loaded=model, **GRID)
    stored, written = load_file(source / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    both = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert both[0] == both[1]
    assert written.keys() == load_file(folders["resaved"] / "model.safetensors").keys()
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config and config["text_config"]["norm_topk_prob"] is True
    bank = next(iter(allocation.bits))
    kept = int((allocation.bits[bank][:, 0] == 16).nonzero()[0][0])
    name = f"{bank}.{kept}.gate_proj.weight"
    scale = stored[f"{name}_scale_inv"].repeat_interleave(32, 0).repeat_interleave(32, 1) if form == "fp8" else 1.0
    original = (stored[name].float() * scale).bfloat16()
    assert torch.equal(written[f"{bank}.gate_up_proj"][kept, :, : len(original)], original.mT)  # in × out
    (note,) = result.manifest["notes"]
    assert note.startswith("The source has a tensor for every expert, where transformers looks for fused ones")
    assert "Qwen/Qwen3-VL-30B-A3B-Instruct" in note and note in (tmp_path / "out" / "README.md").read_text()
    opened: dict = {}
    monkeypatch.chdir(tmp_path / "out")
    exec(lines_of(Path()), opened)
    given = model.encode(tiny_samples[:2], padding_side="left").inputs
    with torch.no_grad(), quantize_experts(model, allocation, **GRID):
        assert torch.equal(model.model(**given).logits, opened["model"].eval()(**given).logits)


GATE = "model.language_model.layers.0.mlp.experts.gate_up_proj"


@pytest.mark.parametrize(
    ("name", "place", "text"),
    [
        (
            "model.language_model.layers.1.self_attn.q_proj.weight",
            None,
            r"1 tensor \(.*q_proj.weight\): missing in",
        ),
        ("model.language_model.norm.weight", 0, r"model.language_model.norm.weight: not finite"),
        (GATE, (3, 0, 0), r"layers.0.mlp.experts, expert 3, gate: not finite"),
    ],
)
def test_what_is_not_whole_or_not_finite_is_not_exported_piece_by_piece(
    folders, loaded, tmp_path, name, place, text
) -> None:
    source = tmp_path / "source"
    published._copy(folders["hub"], source, *(p.name for p in folders["hub"].iterdir()))
    tensors = load_file(source / "model.safetensors")
    if place is None:
        del tensors[name]
    else:
        tensors[name][place] = float("nan")
    published.save(tensors, source / "model.safetensors")
    allocation = allocation_for(loaded["hub"], "dequantized")
    allocation = dataclasses.replace(allocation, bits={b: np.full_like(w, 16) for b, w in allocation.bits.items()})
    with pytest.raises(ModelError, match=text):
        export("dequantized", allocation, tmp_path / "out", checkpoint=source, **GRID)
    assert not (tmp_path / "out").exists()


def test_tensors_that_the_class_does_not_use_are_kept_and_named(folders, loaded, tmp_path) -> None:
    source = tmp_path / "source"
    published._copy(folders["hub"], source, *(p.name for p in folders["hub"].iterdir()))
    extra = {f"mtp.layers.0.mlp.experts.{n}.gate_proj.weight": torch.full((4, 4), n + 1.0) for n in range(4)}
    published.save(load_file(source / "model.safetensors") | extra, source / "model.safetensors")
    for target in ("dequantized", "auto_round"):
        out = tmp_path / target
        result = export(target, allocation_for(loaded["hub"], target), out, checkpoint=source, **GRID)
        written = load_file(out / "model.safetensors")
        assert all(torch.equal(written[name], tensor) for name, tensor in extra.items())
        kept = "4 tensors that the model's class does not use are kept as they are: mtp.layers.0."
        [note] = [one for one in result.manifest["notes"] if one.startswith(kept)]
        assert note.endswith("2.gate_proj.weight and 1 more.")
        assert note in (out / "README.md").read_text(encoding="utf-8")


def test_a_model_of_the_hub_is_written_from_its_snapshot(folders, loaded, tmp_path, monkeypatch) -> None:
    import shutil

    from huggingface_hub import constants

    commit, allocation = "9c4b90e1e4ba969fd3b5378b57d966d725f1b86c", allocation_for(loaded["hub"], "dequantized")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    fetched = dataclasses.replace(loaded["hub"], source="owner/Some-A3B", name="owner/Some-A3B", revision=commit)
    with pytest.raises(ExportError, match="files of owner/Some-A3B are neither a folder nor in the hub's cache"):
        export("dequantized", allocation, tmp_path / "out", loaded=fetched, **GRID)
    shutil.copytree(folders["hub"], tmp_path / "cache" / "models--owner--Some-A3B" / "snapshots" / commit)
    result = export("dequantized", allocation, tmp_path / "out", loaded=fetched, **GRID)
    assert result.manifest["model"]["name"] == "owner/Some-A3B"
    assert f"Made from owner/Some-A3B, revision {commit}" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()


def test_a_folder_that_changed_since_it_was_loaded_is_refused(folders, tmp_path) -> None:
    from mode_core.models import load_model

    source = tmp_path / "source"
    published._copy(folders["hub"], source, *(p.name for p in folders["hub"].iterdir()))
    model = load_model(source, device="cpu")
    tensors = load_file(source / "model.safetensors")
    published.save(tensors | {"model.language_model.norm.weight": torch.zeros(128)}, source / "model.safetensors")
    with pytest.raises(ExportError, match="have changed since the model was loaded; load it again"):
        export("dequantized", allocation_for(model, "dequantized"), tmp_path / "out", loaded=model, **GRID)


@pytest.mark.parametrize("family", ["ernie4_5_vl_moe", "internvl_gpt_oss", "mixtral"])
def test_families_that_lie_otherwise_in_their_files_keep_their_form(tmp_path, family) -> None:
    """Two banks of a layer in one list, interleaved rows with biases, text only with other names."""
    from mode_core.models import load_model
    from tests.families import making

    source = making.save_family(family, tmp_path / "source")
    model = load_model(source, device="cpu")
    allocation = packable_allocation(model, (2, 3, 16))
    result = export("dequantized", allocation, tmp_path / "out", loaded=model, quantizer={"attention_bits": 4}, **GRID)
    written, stored = tensors_of(tmp_path / "out"), tensors_of(source)
    assert {name: tensor.shape for name, tensor in written.items()} == {name: t.shape for name, t in stored.items()}
    opened = load_model(tmp_path / "out", device="cpu").model
    with quantize_experts(model, allocation, attention_bits=4, **GRID):
        for name, tensor in model.model.state_dict().items():
            assert torch.equal(tensor, opened.state_dict()[name]), name
    reader = "AutoTokenizer" if family == "mixtral" else "AutoProcessor"
    assert result.manifest["load"]["lines"][2] == f'processor = {reader}.from_pretrained(".")'
    own = list(model.model.state_dict())  # a file may hold these names too: then they are not renamed once more
    assert model_names(model.model, own) == {name: name for name in own}
    if family == "ernie4_5_vl_moe":
        with pytest.raises(ExportError, match=r"not all of its 8 experts.*without --stream"):
            export("dequantized", allocation, tmp_path / "read", checkpoint=source, **GRID)


def test_versions_that_were_tried_are_those_that_the_tests_run() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    for path in (ROOT / "tests" / "parity").glob("test_*.py"):
        pinned |= dict(re.findall(r'"([\w-]+)==([\w.]+)"', path.read_text()))
    for target in TARGETS.values():
        assert bool(target.load) == (target.group == "checkpoint" and target.name != "compressed_tensors_expert")
        for package, version in target.tried.items():
            assert pinned[package] == version, target.name
