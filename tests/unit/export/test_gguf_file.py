"""The GGUF file: its experts are our quantized weights exactly, and llama.cpp itself answers as our model does."""

import json

import numpy as np
import pytest
import torch

from mode_core.export import ExportError, export
from mode_core.export.ggml_blocks import blocks
from mode_core.export.ggml_types import TYPES, container, holds
from mode_core.export.gguf_names import expert_tensor, family_of
from mode_core.export.gguf_vocabulary import LETTERS, REST, add_vocabulary
from mode_core.models import load_model
from mode_core.quantization import quantize_experts
from mode_core.quantization.grids import quantize
from mode_core.quantization.hqq import hqq
from mode_core.quantization.packing import pack_matrices
from mode_core.samples import read_samples
from tests.conftest import BUNDLED, packable_allocation
from tests.llama_cpp import ask, divergence, log_probabilities, own_log_probabilities

gguf = pytest.importorskip("gguf")


def by_tensor(loaded, widths, seed=2):
    """Widths drawn for gate+up and for down of every layer."""
    from dataclasses import replace

    drawn = packable_allocation(loaded, widths, seed=seed)
    return replace(drawn, bits={name: np.tile(bits[:1], (len(bits), 1)) for name, bits in drawn.bits.items()})


def stored(path) -> dict:
    """The tensors of a file, by gguf-py's reader."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def values_of(tensor) -> np.ndarray:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.fixture(scope="module")
def by_plan(bundled_model, tmp_path_factory):
    """The bundled model in the types that hold 3, 4, 5, 6 and 8 bits."""
    allocation = by_tensor(bundled_model, (3, 4, 5, 6, 8), seed=4)
    folder = tmp_path_factory.mktemp("gguf") / "out"
    return export("gguf", allocation, folder, loaded=bundled_model, options={"types": "plan"}), allocation


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8])
def test_codes_in_blocks_stand_for_the_same_weights(bits, symmetric):
    torch.manual_seed(bits)
    (matrix,) = pack_matrices(quantize(torch.randn(1, 6, 192), bits, 64, symmetric))
    kind = container(bits, symmetric, 192, 64)
    if bits == 8 and not symmetric:
        assert kind is None
        return
    made, ours = blocks(matrix, kind), matrix.dequantize().numpy()
    assert made.shape == (6, kind.row_bytes(192))
    if kind.name == "Q2_0":  # gguf-py has no such type: read by the words of the table
        theirs = read_q2_0(made)
    else:
        theirs = gguf.quants.dequantize(made, gguf.GGMLQuantizationType[kind.name])
    # a minimum is rounded to float16: at most half a unit in its last place
    slack = np.abs(ours).max() * 2.0**-10 if kind.offset else 0.0
    assert np.abs(theirs - ours).max() <= slack


def read_q2_0(made: np.ndarray) -> np.ndarray:
    """(q − 1)·d, four a byte with the first lowest, blocks of 64 in 18 bytes."""
    rows = []
    for row in made.reshape(len(made), -1, 18):
        scale = row[:, :2].copy().view(np.float16).astype(np.float32)
        codes = np.stack([row[:, 2:] >> shift & 3 for shift in (0, 2, 4, 6)], axis=2).reshape(len(row), 64)
        rows.append(((codes.astype(np.float32) - 1) * scale).ravel())
    return np.stack(rows)


def test_fractional_zero_points_take_a_minimum():
    (matrix,) = pack_matrices(hqq(torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0)), 4, 64))
    kind = container(4, False, 64, 64, fractions=True)
    assert kind.name == "Q4_1" and container(6, False, 64, 64, fractions=True) is None
    theirs = gguf.quants.dequantize(blocks(matrix, kind), gguf.GGMLQuantizationType.Q4_1)
    assert np.abs(theirs - matrix.dequantize().numpy()).max() < 2e-3 * np.abs(theirs).max()


def test_blocks_need_whole_groups():
    assert not holds(TYPES["Q4_0"], 4, True, 96, 48)  # a block would have two scales
    assert holds(TYPES["Q4_0"], 4, True, 96, 96) and not holds(TYPES["Q2_0"], 2, True, 96, 96)
    assert not holds(TYPES["Q4_0"], 5, True, 128, 32)


def test_the_file_holds_our_weights_and_the_rest_as_it_was(by_plan, bundled_model):
    result, allocation = by_plan
    tensors = stored(result.folder / "model.gguf")
    with quantize_experts(bundled_model, allocation) as quantized:
        for name, bank in bundled_model.banks.items():
            for projection in bank.projections:
                held = values_of(tensors.pop(expert_tensor(bank.layer, projection)))
                ours = [quantized.packed[name, e, projection].dequantize().numpy() for e in range(bank.experts)]
                assert np.abs(held - np.stack(ours)).max() == 0.0
    state = bundled_model.model.state_dict()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3VLMOE, len(bundled_model.banks))
    for full, ours in state.items():
        if "language_model" in full and ".experts." not in full:
            short = full.replace("model.language_model.", "model.")
            theirs = tensors.pop(names.get_name(short, try_suffixes=(".weight",)))
            assert (values_of(theirs) == ours.float().numpy().reshape(theirs.data.shape[0], -1).squeeze()).all(), full
    assert not tensors
    eyes = bundled_model.model.config.vision_config
    side = eyes.patch_size * eyes.spatial_merge_size
    for said in ("convert_hf_to_gguf.py", f"with black to whole multiples of {side} pixels"):
        assert any(said in note for note in result.manifest["notes"])


@pytest.fixture(scope="module")
def exact():
    """The bundled model in float32, as llama.cpp computes, and 12 questions without pictures."""
    loaded = load_model(BUNDLED / "model", device="cpu", dtype="float32")
    samples = [sample for sample in read_samples(BUNDLED / "evaluation" / "samples.jsonl") if not sample.images][:12]
    return loaded, [loaded.encode([sample]).inputs["input_ids"][0].tolist() for sample in samples]


@pytest.mark.parametrize(("widths", "bound"), [((16,), 1e-5), ((3, 4, 5, 6, 8), 2e-4)])
def test_llama_cpp_answers_as_our_model(exact, tmp_path, widths, bound):
    """Unquantized the two agree to float32. Else llama.cpp rounds what enters a product to 8 bits: 2e-5 to 6e-5 was
    seen, where quantizing to 4 bits itself costs 2e-3."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    (loaded, prompts), allocation = exact, by_tensor(exact[0], widths, seed=4)
    options = {"types": "plan", "rest": "F32"}
    result = export("gguf", allocation, tmp_path / "out", loaded=loaded, options=options)
    with quantize_experts(loaded, allocation):
        ours = own_log_probabilities(loaded, prompts)
    theirs = log_probabilities(result.folder / "model.gguf", prompts, ours.shape[1])
    assert abs(divergence(ours, theirs)) < bound
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).all() and len(prompts) == 12


def byte_level(text: list[str], specials: dict[str, bool]):
    """A small byte-level BPE tokenizer that cuts text as Qwen's does; `specials` → whether they are control tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(LETTERS + r"\p{N}" + REST), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(text, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False))
    made.add_tokens([AddedToken(name, special=special, normalized=False) for name, special in specials.items()])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def test_a_byte_level_tokenizer_goes_in_whole(tmp_path):
    """llama.cpp cuts and merges text into the ids that the tokenizer itself gives, special tokens included."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    text = ["what colour is the square?", "there are 12 circles, aren't there?", "Grüße aus Köln! naïve 東京"]
    specials = {"<|endoftext|>": True, "<|im_start|>": True, "<|im_end|>": True, "<tool_call>": False}
    tokenizer = byte_level(text * 3, specials)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    path = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    assert add_vocabulary(writer, tmp_path, 360) == ()
    for add, value in (
        ("context_length", 64), ("embedding_length", 32), ("block_count", 1), ("feed_forward_length", 32),
        ("head_count", 2), ("layer_norm_rms_eps", 1e-6), ("rope_dimension_count", 16),
    ):  # fmt: skip
        getattr(writer, f"add_{add}")(value)
    square = np.ones((32, 32), np.float32)
    for name, tensor in (
        ("token_embd", np.ones((360, 32), np.float32)), ("output_norm", square[0]), ("blk.0.attn_norm", square[0]),
        ("blk.0.ffn_norm", square[0]), *((f"blk.0.attn_{part}", square) for part in ("q", "k", "v", "output")),
        *((f"blk.0.ffn_{part}", square) for part in ("gate", "up", "down")),
    ):  # fmt: skip
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    asked = "<|im_start|>What's 東京 in 2024?\n\n  Grüße,\tnaïve<tool_call>12 circles<|im_end|>"
    (theirs,) = ask(path, texts=[asked])["tokens"]
    assert theirs == tokenizer(asked)["input_ids"] and len(theirs) > 20
    fields = gguf.GGUFReader(path).fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert fields["tokenizer.ggml.pre"].contents() == "qwen2"  # digits one by one, which few merges would show
    assert fields["tokenizer.chat_template"].contents() == "{{ messages[0].content }}"
    assert fields["tokenizer.ggml.tokens"].contents()[-1] == "[PAD359]"


def test_what_cannot_be_written_is_refused_in_words(tmp_path, tiny_model, packable_model):
    with pytest.raises(ExportError, match=r"3 layers and banks in \[0, 2\]"):
        export("gguf", by_tensor(tiny_model, (16,)), tmp_path / "a", loaded=tiny_model, options={"types": "plan"})
    with pytest.raises(ExportError, match=r"glm4v_moe.* is not written here .*Qwen3-VL-MoE, InternVL with Qwen3-MoE"):
        family_of({"model_type": "glm4v_moe"})
    with pytest.raises(ExportError, match="No ggml type holds 8-bit codes of rows of 64 weights in groups of 48"):
        allocation = by_tensor(packable_model, (8,))
        export("gguf", allocation, tmp_path / "b", loaded=packable_model, group_size=48, options={"types": "plan"})
    with pytest.raises(ExportError, match=r"cuts text by \['x'\], which is not known"):
        record = {"type": "Split", "pattern": {"Regex": "x"}}, {"type": "ByteLevel"}
        model = {"type": "BPE", "vocab": {}}
        tokenizer = {"model": model, "pre_tokenizer": {"type": "Sequence", "pretokenizers": record}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        add_vocabulary(gguf.GGUFWriter(None, "llama"), tmp_path, 1)


def test_a_folder_read_piece_by_piece_gives_the_same_file(packable_model, tmp_path):
    """Attention at a width of its own is stored as its codes, embeddings and the head in Q8_0."""
    allocation, attention = by_tensor(packable_model, (4, 5)), {"attention_bits": 4}
    common = {"group_size": 32, "quantizer": attention, "options": {"types": "plan", "rest": "Q8_0"}}
    made = export("gguf", allocation, tmp_path / "loaded", loaded=packable_model, **common)
    again = export("gguf", allocation, tmp_path / "read", checkpoint=packable_model.source, **common)
    first, second = ((each.folder / "model.gguf").read_bytes() for each in (made, again))
    assert first == second
    tensors = stored(made.folder / "model.gguf")
    with quantize_experts(packable_model, allocation, group_size=32, **attention) as quantized:
        ours = quantized.linears["model.language_model.layers.1.self_attn.v_proj"].dequantize().numpy()
    assert np.abs(values_of(tensors["blk.1.attn_v.weight"]) - ours).max() == 0.0
    assert tensors["token_embd.weight"].tensor_type.name == "Q8_0"
    embedding = packable_model.model.get_input_embeddings().weight.detach().float().numpy()
    assert np.abs(values_of(tensors["token_embd.weight"]) - embedding).max() < np.abs(embedding).max() / 200
