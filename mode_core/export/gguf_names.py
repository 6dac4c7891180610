"""What llama.cpp calls the parts of a model: architectures, names of tensors, and the settings a file must hold.

Names come from gguf-py's own table. A family is written where its tensors go into the file as they are and its settings
are known here; any other is refused in words, since a file that loads with a wrong setting answers wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mode_core.export.folder import ExportError
from mode_core.quantization.sizes import VISION_BRIDGES, VISION_PARTS

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from mode_core.export.weights import Weights

CONVERTER = "python convert_hf_to_gguf.py <model folder> --mmproj --outtype f16 --outfile mmproj.gguf"
LANGUAGE = ("model.language_model.", "language_model.model.", "language_model.", "model.")


@dataclass(frozen=True)
class Family:
    """A family that is written: its title, gguf-py's name of its architecture, and what adds its own settings."""

    title: str
    architecture: str
    settings: Callable[[GGUFWriter, Mapping[str, Any], Mapping[str, Any]], None]


def _qwen3_moe(writer: GGUFWriter, text: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """llama.cpp divides the routing weights of this architecture by their sum, whatever a file says."""
    if config["model_type"] != "qwen3_vl_moe" and not text.get("norm_topk_prob", False):
        raise ExportError("norm_topk_prob is off in this model, and llama.cpp's graph of qwen3moe always normalizes.")


def _olmoe(writer: GGUFWriter, text: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """llama.cpp never divides the routing weights of this architecture by their sum, nor clips or shares keys."""
    heads = text["num_attention_heads"]
    shared = (text.get("num_key_value_heads") or heads) != heads
    if text.get("norm_topk_prob", False) or text.get("clip_qkv") is not None or shared:
        raise ExportError(
            "norm_topk_prob or clip_qkv is set in this model, or heads share keys, and llama.cpp's graph of olmoe "
            "knows none of these."
        )


def _qwen3_vl_moe(writer: GGUFWriter, text: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    _qwen3_moe(writer, text, config)
    sections = rope_of(text).get("mrope_section", ())
    writer.add_rope_dimension_sections([*sections, *[0] * (4 - len(sections))])
    writer.add_num_deepstack_layers(len(config["vision_config"].get("deepstack_visual_indexes") or ()))


QWEN3_MOE = "QWEN3MOE"
FAMILIES: dict[str, Family] = {  # by model type; a wrapper's language model stands behind its own type
    "qwen3_vl_moe": Family("Qwen3-VL-MoE", "QWEN3VLMOE", _qwen3_vl_moe),
    "internvl/qwen3_moe": Family("InternVL with Qwen3-MoE", QWEN3_MOE, _qwen3_moe),
    "qwen3_moe": Family("Qwen3-MoE", QWEN3_MOE, _qwen3_moe),
    "olmoe": Family("OLMoE", "OLMOE", _olmoe),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration.

    Raises:
        ExportError: it is not written here, with those that are and the way that remains.
    """
    kind, inner = config.get("model_type"), text_of(config).get("model_type")
    if (found := FAMILIES.get(f"{kind}/{inner}") or FAMILIES.get(kind)) is None:
        named = f"{kind} with {inner}" if inner not in (None, kind) else kind
        raise ExportError(
            f"A GGUF file of {named} is not written here (written and opened by llama.cpp: "
            f"{', '.join(each.title for each in FAMILIES.values())}). Use 'dequantized' with llama.cpp's "
            "convert_hf_to_gguf.py, and the target 'gguf_script' for llama-quantize."
        )
    return found


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def rope_of(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the rotary embedding, under whichever of its two names."""
    return text.get("rope_parameters") or text.get("rope_scaling") or {}


def tensor_names(weights: Weights, family: Family) -> tuple[dict[str, str], tuple[str, ...]]:
    """Files' names of the language model's tensors outside the routed experts → their names in a GGUF file; and those
    that are no part of it (the model's eyes, and what its class does not use).

    Raises:
        ExportError: a tensor of the language model that llama.cpp has no name for.
    """
    import gguf

    depth = int(text_of(weights.config)["num_hidden_layers"])
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.architecture], depth)
    found, left, unused = {}, [], set(weights.strange)
    for stored, name in weights.names.items():
        if stored in weights.routed:
            continue
        steps = set(name.split("."))
        if stored in unused or steps & {*VISION_PARTS, *VISION_BRIDGES}:
            left.append(stored)
            continue
        short = next((f"model.{name[len(p) :]}" for p in LANGUAGE if name.startswith(p)), name)
        if (theirs := table.get_name(short, try_suffixes=(".weight", ".bias"))) is None:
            raise ExportError(f"llama.cpp's {family.architecture} has no name for {name}, so the file cannot be made.")
        found[stored] = theirs
    return found, tuple(left)


def expert_tensor(layer: int, projection: str) -> str:
    """Name of the tensor `[E, out, in]` that holds one projection of a layer's experts."""
    return f"blk.{layer}.ffn_{projection}_exps.weight"


def add_settings(writer: GGUFWriter, weights: Weights, family: Family) -> None:
    """Every setting of the language model that llama.cpp asks for.

    Raises:
        ExportError: a layer without experts, or a rotary embedding that is stretched.
    """
    config, shape = weights.config, next(iter(weights.shapes.values()))
    text, rope = text_of(config), rope_of(text_of(config))
    layers, heads = int(text["num_hidden_layers"]), int(text["num_attention_heads"])
    held = [each.layer for each in weights.shapes.values()]
    if sorted(held) != list(range(layers)):
        raise ExportError(
            f"llama.cpp's {family.architecture} wants one expert bank in every layer; this model has {layers} layers "
            f"and banks in {sorted(held)}."
        )
    if (kind := rope.get("rope_type", rope.get("type", "default"))) not in ("default", "mrope"):
        raise ExportError(f"The rotary embedding is of the type {kind!r}, which is not written to GGUF files here.")
    width = int(text.get("head_dim") or text["hidden_size"] // heads)
    writer.add_block_count(layers)
    writer.add_context_length(int(text["max_position_embeddings"]))
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(int(text["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(text.get("num_key_value_heads") or heads))
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or text["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(text["rms_norm_eps"]))
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.top_k)
    writer.add_expert_feed_forward_length(shape.intermediate)
    writer.add_vocab_size(int(text["vocab_size"]))
    family.settings(writer, text, config)
