"""The catalogue: everything that can be written, group by group, the recommended form first."""

from __future__ import annotations

from mode_core.export.auto_round import FAMILIES as AUTO_ROUND_PROVEN
from mode_core.export.auto_round import WIDTHS as AUTO_ROUND_WIDTHS
from mode_core.export.auto_round import write_auto_round
from mode_core.export.auto_round_recipe import write_auto_round_recipe
from mode_core.export.compressed_tensors import WIDTHS as COMPRESSED_WIDTHS
from mode_core.export.compressed_tensors import common_group, write_compressed_tensors
from mode_core.export.dequantized import write_dequantized
from mode_core.export.exllamav3 import EXL3_WIDTHS, SERVED_WIDTHS, write_exllamav3
from mode_core.export.exllamav3 import FAMILIES as EXL3_FAMILIES
from mode_core.export.expert_bits import write_expert_bits
from mode_core.export.ggml_library import TRIED as GGML_TRIED
from mode_core.export.gguf_choice import fit_types
from mode_core.export.gguf_file import LINES as GGUF_LINES
from mode_core.export.gguf_file import write_gguf_file
from mode_core.export.gguf_names import CONVERTER
from mode_core.export.gguf_names import FAMILIES as GGUF_FAMILIES
from mode_core.export.gptqmodel import WIDTHS as GPTQ_WIDTHS
from mode_core.export.gptqmodel import write_gptqmodel, write_gptqmodel_config
from mode_core.export.imatrix import write_imatrix
from mode_core.export.llama_quantize import WIDTHS as GGUF_WIDTHS
from mode_core.export.llama_quantize import write_gguf
from mode_core.export.mlx import WIDTHS as MLX_WIDTHS
from mode_core.export.mlx import mlx_group, write_mlx, write_mlx_config
from mode_core.export.pruned import FAMILIES as PRUNED_FAMILIES
from mode_core.export.pruned import write_pruned
from mode_core.export.recipes import WIDTHS as RECIPE_WIDTHS
from mode_core.export.recipes import write_recipe
from mode_core.export.table import write_table
from mode_core.export.target import Target
from mode_core.quantization.widths import DROPPED, UNTOUCHED, WIDTHS

GGUF_FILE_WIDTHS = (*WIDTHS, UNTOUCHED)
ALL_WIDTHS = (DROPPED, *WIDTHS, UNTOUCHED)
AUTO_ROUND_FAMILIES = AUTO_ROUND_PROVEN.values()
TRANSFORMERS, TORCH = "5.23.0", "2.13.0"
STOCK_LINES = """\
from transformers import {model}, {reader}
model = {model}.from_pretrained("."{trust})
processor = {reader}.from_pretrained("."{trust})
"""
GPTQMODEL_LINES = """\
import torch
from gptqmodel import BACKEND, GPTQModel
model = GPTQModel.load(".", backend=BACKEND.TORCH, device="cpu", dtype=torch.float16).model
"""
MLX_LINES = """\
from mlx_vlm import load
model, processor = load(".")
"""
VLLM_LINES = """\
from vllm import LLM
llm = LLM(model=".")
"""

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "auto_round",
            "Packed checkpoint in AutoRound's format, a width for every expert",
            "checkpoint",
            "Take it to run the model in transformers, if its family is among those proven.",
            "expert_projection",
            AUTO_ROUND_WIDTHS,
            "transformers with the package auto-round (tried: 0.16.1, on CPU), by stock from_pretrained; with zero "
            "points transformers alone. vLLM (tried: 0.32) takes one width for all experts of a layer: where a layer "
            "has several, silently the file's most common one, and then it stops at sizes that do not match; solve "
            f"with unit 'layer' for it. SGLang wants one width too. Families: {', '.join(AUTO_ROUND_FAMILIES)}.",
            "Its tensors, unpacked by an independent reader, equal the quantized weights; stock from_pretrained with "
            "auto-round gives the same weights to the bit, and logits within 0.005. vLLM's own settings and loader, "
            "its kernel emulated, give the same answers where each layer has one width (tests/parity).",
            write_auto_round,
            needs_model=True,
            load=STOCK_LINES,
            tried={"transformers": TRANSFORMERS, "torch": TORCH, "auto-round": "0.16.1"},
            engine="transformers",
            recommended="Stock from_pretrained loads it, with every expert at its own width.",
        ),
        Target(
            "dequantized",
            "Plain checkpoint with the quantized values, in the original's form",
            "checkpoint",
            "Take it to measure what the bits cost in whatever runs the original; it saves no memory.",
            "expert_projection",
            ALL_WIDTHS,
            "Whatever runs the original checkpoint: transformers, vLLM, lmms-eval, VLMEvalKit. It saves no memory; "
            "it is for measuring what the bits cost.",
            "Names, layout, types and companion files are the source's; loaded with stock transformers, its logits "
            "equal those of the quantized model; vLLM on a CPU gives the same answers, pictures too (tests/parity).",
            write_dequantized,
            needs_model=True,
            load=STOCK_LINES,
            tried={"transformers": TRANSFORMERS, "torch": TORCH},
        ),
        Target(
            "pruned",
            "Plain checkpoint without the experts at width 0, a smaller model of the same form",
            "checkpoint",
            "Take it to leave experts out for good: fewer of them, in whatever runs the original.",
            "expert_projection",
            ALL_WIDTHS,
            "Whatever runs the original checkpoint, with fewer experts in every layer. Tokens of those left out go to "
            f"others. Families: {', '.join(PRUNED_FAMILIES.values())}.",
            "Loaded with stock transformers, its logits equal those of the quantized model whose router cannot choose "
            "the experts that were left out.",
            write_pruned,
            needs_model=True,
            load=STOCK_LINES,
            tried={"transformers": TRANSFORMERS, "torch": TORCH},
            reroutes=True,
        ),
        Target(
            "gptqmodel",
            "Packed checkpoint in GPTQModel's format, a width for every expert",
            "checkpoint",
            "Take it if GPTQModel is what loads your models.",
            "expert_projection",
            GPTQ_WIDTHS,
            "GPTQModel (tried: 7.7.0, torch backend on CPU). vLLM and SGLang want one width for all experts of a "
            "layer. Family: Qwen3-VL-MoE.",
            "Its tensors, unpacked by an independent reader, equal the quantized weights; in an environment of its own "
            "(tests/parity) GPTQModel's dynamic_get names every module's width and its loader gives these weights.",
            write_gptqmodel,
            needs_model=True,
            load=GPTQMODEL_LINES,
            tried={"gptqmodel": "7.7.0", "transformers": TRANSFORMERS, "torch": TORCH},
            engine="GPTQModel",
        ),
        Target(
            "compressed_tensors",
            "Packed checkpoint in compressed-tensors' format, one width for a layer",
            "checkpoint",
            "Take it for vLLM, if one width for all experts of a layer is fine enough.",
            "layer",
            COMPRESSED_WIDTHS,
            "vLLM, where it has a kernel for the width (a GPU; tried: 0.32's settings and loader, kernel emulated). "
            "Not stock transformers: 5.23 loads files with several widths without an error and with wrong weights. "
            "Family: Qwen3-VL-MoE.",
            "compressed-tensors' own decompressor gives the quantized weights exactly, and vLLM's own settings and "
            "loader the same answers (tests/parity); an expected failure records what transformers makes of a file "
            "with several widths.",
            write_compressed_tensors,
            needs_model=True,
            group_for=common_group,
            load=VLLM_LINES,
            engine="vLLM",
            run="vllm serve {folder} --max-model-len {context}",
            warning="Loaded by stock transformers, a file with several widths has wrong weights and no error.",
        ),
        Target(
            "mlx",
            "Packed checkpoint in MLX's format, one width for a layer's projection",
            "checkpoint",
            "Take it for mlx-vlm on an Apple machine.",
            "projection",
            MLX_WIDTHS,
            "mlx-vlm on Apple machines (and on Linux with MLX's CPU build). Family: Qwen3-VL-MoE.",
            "Where MLX is installed, its own dequantize gives the quantized weights; in an environment of its own "
            "(tests/parity) mlx-vlm opens the checkpoint and its logits are compared.",
            write_mlx,
            needs_model=True,
            group_for=mlx_group,
            load=MLX_LINES,
            tried={"mlx": "0.32.4", "mlx-vlm": "0.7.10", "transformers": TRANSFORMERS},
            engine="MLX (Apple)",
            run="python -m mlx_vlm.generate --model {folder} --image picture.png --prompt 'What is this?'",
        ),
        Target(
            "compressed_tensors_expert",
            "Packed checkpoint in compressed-tensors' format, a width for every expert: for research only",
            "checkpoint",
            "Take it only to work on an engine that shall read it one day; none does now.",
            "expert_projection",
            COMPRESSED_WIDTHS,
            "None that was found: compressed-tensors itself decompresses it; vLLM and SGLang want one width for all "
            "experts of a layer, and transformers 5.23 loads it with wrong weights.",
            "compressed-tensors' own decompressor gives the quantized weights exactly.",
            write_compressed_tensors,
            needs_model=True,
            group_for=common_group,
            warning="No engine runs this: vLLM takes the first expert's width for its layer and stops at sizes that do "
            "not match, and stock transformers loads wrong weights without an error.",
        ),
        Target(
            "gguf",
            "A GGUF file, a type for a layer's projection",
            "checkpoint",
            "Take it for llama.cpp, Ollama or LM Studio: one file that they open.",
            "projection",
            GGUF_FILE_WIDTHS,
            "llama.cpp (tried: b11549, by xllamacpp) and what is built on it. Families: "
            f"{', '.join(family.title for family in GGUF_FAMILIES.values())}. The vision part is a second file, by "
            f"llama.cpp's own converter: {CONVERTER}.",
            "Where a type holds our codes, gguf-py's and ggml's own dequantize give the quantized weights, difference "
            "0.0; llama.cpp opens the file and answers with the same probabilities, to pictures too (tests/parity).",
            write_gguf_file,
            needs_model=True,
            offers={"types": ("codes", "all", "plan"), "rest": ("", "Q8_0", "BF16", "F16", "F32"), "imatrix": ("",)},
            needs="gguf",
            fit=fit_types,
            load=GGUF_LINES,
            tried={"xllamacpp": GGML_TRIED},
            engine="llama.cpp, Ollama, LM Studio",
            run="llama-server -m {folder}/model.gguf --mmproj mmproj.gguf -c {context}",
        ),
        Target(
            "auto_round_recipe",
            "A script for AutoRound, which tunes the rounding to these bits",
            "recipe",
            "Take it to have AutoRound tune the rounding to these bits.",
            "expert_projection",
            RECIPE_WIDTHS,
            "AutoRound (tried: 0.16.1, on CPU): python quantize.py MODEL, pictures of the calibration included.",
            "Every expert's every matrix has exactly one entry, which AutoRound's own class takes; run for a few "
            "steps, every width is the one asked for, and stock transformers loads the result (tests/parity).",
            write_auto_round_recipe,
            takes_samples=True,
        ),
        Target(
            "gptqmodel_config",
            "GPTQModel's settings alone, to quantize with it at these bits (JSON)",
            "recipe",
            "Take it to have GPTQModel quantize the original to these bits.",
            "expert_projection",
            GPTQ_WIDTHS,
            "GPTQModel: QuantizeConfig.from_pretrained(folder), then its own quantize.",
            "Every expert's every matrix is matched by exactly one rule; GPTQModel's own class reads it "
            "(tests/parity).",
            write_gptqmodel_config,
        ),
        Target(
            "llm_compressor_recipe",
            "A recipe for llm-compressor's GPTQ at these bits (YAML)",
            "recipe",
            "Take it to have llm-compressor quantize the original to these bits.",
            "expert_projection",
            RECIPE_WIDTHS,
            "llm-compressor: oneshot(model, recipe='recipe.yaml'). It saves in compressed-tensors' format, so what is "
            "said there about engines holds.",
            "Every expert's every matrix is matched by exactly one pattern; llm-compressor's own classes read the file "
            "and its oneshot rounds every matrix to its width (tests/parity).",
            write_recipe,
            group_for=common_group,
        ),
        Target(
            "gguf_script",
            "A llama-quantize command, one type for a layer's projection",
            "recipe",
            "Take it for llama.cpp: it makes the quantized GGUF file out of the bfloat16 one.",
            "projection",
            GGUF_WIDTHS,
            "llama.cpp: run the script on the bfloat16 GGUF file of the model. Types hold more than their nominal "
            "bits (q2_k 2.6, q3_k 3.4, q4_k 4.5).",
            "llama.cpp's own quantizing function obeys every rule on rows of 256, and its blocks are ours to the byte, "
            "with an importance matrix too (tests/parity).",
            write_gguf,
        ),
        Target(
            "exllamav3_recipe",
            "Recipes for ExLlamaV3, one width for a layer's projection (YAML)",
            "recipe",
            "Take it to have ExLlamaV3 quantize the original to EXL3 at these bits, on an NVIDIA GPU.",
            "projection",
            EXL3_WIDTHS,
            "ExLlamaV3: convert.py --recipe recipe.yaml, or util/recompile.py --override override.yaml (read in "
            "its sources of September 2026; quantizing needs CUDA and was not run). Families: "
            f"{', '.join(EXL3_FAMILIES.values())}.",
            "Its converter's own code (1.6.5) takes recipe.yaml for a tiny Qwen3-VL-MoE: every linear layer of the "
            "decoder at our bits, and no other (tests/parity). Patterns match each tensor of an expert once, as read. "
            "Nothing was quantized.",
            write_exllamav3,
        ),
        Target(
            "exllamav3_recipe_expert",
            "Recipes for ExLlamaV3, a width for every expert (YAML)",
            "recipe",
            "Take it for the plug-in vllm-exl3, which serves experts of one layer at several widths.",
            "expert_projection",
            SERVED_WIDTHS,
            "vllm-exl3, on the forks of vLLM that it names (read, not run). ExLlamaV3 itself writes and reads it: its "
            "format has a width for every matrix.",
            "ExLlamaV3's converter's own code (1.6.5) takes it, each expert at its bits (tests/parity). Not quantized.",
            write_exllamav3,
            warning="ExLlamaV3's fast path for experts wants equal widths within a layer; with several it is slower, "
            "or refuses. Measure before you keep it.",
        ),
        Target(
            "mlx_config",
            "MLX's bits for every path, to convert with mlx-vlm (JSON)",
            "recipe",
            "Take it to convert the original for Apple machines yourself.",
            "projection",
            MLX_WIDTHS,
            "mlx-vlm and mlx-lm, as the quantization entry of config.json or by a predicate.",
            "Every bank's every projection has one path, which the converted checkpoint holds.",
            write_mlx_config,
            group_for=mlx_group,
        ),
        Target(
            "imatrix",
            "An importance matrix that has seen pictures (GGUF)",
            "data",
            "Take it for llama-quantize --imatrix, or for K and IQ types of the target gguf.",
            "expert_projection",
            ALL_WIDTHS,
            "llama.cpp: llama-quantize --imatrix imatrix.gguf (tried: the function behind it, b11739).",
            "Its sums equal those counted from the model's own pass; ggml's function takes each expert's row, and the "
            "error weighted by it falls.",
            write_imatrix,
            offers={"weighting": ("modality", "plain")},
            needs="gguf",
        ),
        Target(
            "expert_bits",
            "Bits per expert, as the released MODE code reads them (JSON)",
            "data",
            "Take it for the paper's released quantizer, or for a program of your own.",
            "expert",
            ALL_WIDTHS,
            "The paper's released quantizer, option --expert_bits_json.",
            "Read back, it equals the allocation.",
            write_expert_bits,
        ),
        Target(
            "table",
            "One row per expert with every statistic (CSV and Parquet)",
            "data",
            "Take it to look at the experts in a spreadsheet or in pandas.",
            "expert_projection",
            ALL_WIDTHS,
            "Spreadsheets, pandas, and anything else that reads CSV or Parquet.",
            "Read back with pandas, it equals the allocation and the statistics.",
            write_table,
        ),
    )
}

ENGINES = {target.engine: target for target in TARGETS.values() if target.engine}  # engine -> the form for it
