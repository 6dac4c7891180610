"""Writes the table of families in the documentation from the registry of tests: `python -m tests.families.table`."""

from __future__ import annotations

from pathlib import Path

from mode_core.models.refused import REFUSED
from tests.families.making import class_name, model_class
from tests.families.registry import FAMILIES, Family

PLACE = Path(__file__).resolve().parents[2] / "mode_core" / "models" / "README.md"
REACHED = {
    "interface": "experts interface",
    "call": "adapter: call",
    "list": "adapter: list",
    "scaled_input": "adapter: scaled input",
}
HEAD = """# Models

`load_model(folder or hub id)` takes any model of the families below, through transformers' own Auto classes. Expert
banks are found by structure (`bank_search.py`), read and written through one interface whatever the storage
(`storage.py`, `banks.py`), and watched by one probe (`mode_core/probing/probe.py`).

What was loaded is what the files say. `CheckpointFiles` knows which files of a folder are the model (the shards of the
index, else `model*.safetensors`) and reads their tensors, for the loaded and for the streamed path; `weight_loading.py`
asks transformers what it missed. Refused, with names and what to do: tensors that are missing, of another shape or in
no place of the model; numbers that are not finite, at loading and in the logits of the first batch (`soundness.py`);
checkpoints that are quantized already (`quantized.py`); `pytorch_model.bin`, GGUF and adapters alone, Git-LFS pointers,
missing tokenizer, processor or template (`folders.py`). Block-scaled FP8 is read as what it stands for. The revision is
a digest of config.json, index and weights, and of the model's own code; tokenizer and processor are no part of it.
`outline(folder)` is the model without weights, for what needs its parts alone.

Every row is tested on a tiny random-weight model made from the family's own configuration class
(`tests/unit/models/test_families.py`; this table is written by `python -m tests.families.table`, and a test compares
it). The tests assert, against the model itself:

- the banks that are found, and that each expert's `gate`, `up`, `down` give what the model's own module gives;
- quantized weights reach the model, and the original comes back bit for bit;
- the probe changes no logit (difference 0, float32, CPU), sees every bank once and every position in one bank of a
  layer, and what it saw adds up to the bank's output;
- selections equal a count from the router's own output in a plain pass; padding is left out;
- importance of vision and audio tokens equals the model's own attention matrices (eager kernel, 1e-4);
- the error of an expert at 2 bits equals that of the model's own module with quantized weights in it;
- `python -m mode_core rotate` writes a folder whose logits are the original's (1e-4, pictures and text, norms drawn at
  random), or it is refused with the reason that the table has;
- `python -m mode_core calibrate --model <folder> --samples <file> --signals all` and an allocation from it;
- evaluation, and a plain checkpoint (`dequantized`) that opens with every tensor as quantized in the model.

An image-text family of the installed transformers that has experts, and is neither here nor refused by name with a
reason (`refused.py`), fails a test (`tests/unit/models/test_known_families.py`): a new release says what is new.

*Pictures*: the samples have pictures and go through the family's own processor, made offline. *Text only*: no vision
tokens; a sample with a picture is refused. *Sound*: a sample with a sound too, whose tokens are a kind of their own;
where a model of such a family has no part that listens (no `audio_config`), and in all other families, a sample with a
sound is refused.

"""
TAIL = """
How the experts are reached:

- **experts interface**: a function registered with transformers' `ALL_EXPERTS_FUNCTIONS` takes the module's place,
  calls the implementation that the model had, and looks at what went in and came out.
- **adapter**: hooks on the block that holds the bank. Only names say that it was read rightly, so on the first batch
  the weighted sum of the chosen experts is compared with the bank's output on a few tokens; a family that is not
  understood is refused, never measured wrongly.

Attention is read through `ALL_ATTENTION_FUNCTIONS`, else through a method `_scaled_dot_product_attention`, else through
`output_attentions`. Where a model has none of these, the attention signals are refused and `duplication` and
`diversity` remain. A layer without attention of its own (linear attention, convolution) is served by the nearest layer
before that has one, else by the first after; `run.json` names these under `attention_from`.

Families whose code comes with the model (Kimi-VL, DeepSeek-VL2, MolmoE) are tested on doubles: small models with the
same modules under the same names (`tests/families/modeling_doubles.py`), saved with their code and loaded with
`trust_remote_code=True`. The code itself was written for older transformers, and no weights of these models were run
here. Checked once against code published on GitHub (Kimi-VL's in MingZwhy/MODE, the other two in
krishnateja95/MoE-Mixed-Prec), taken class by class: the blocks of experts of Kimi-VL-A3B
(`DeepseekV3MoE`, `MoEGate`), of DeepSeek-VL2 (`DeepseekV2MoE`, greedy and group-limited choice) and of MolmoE-1B
(`MolmoeSparseMoeBlock`), with random weights: banks found, outputs unchanged, choices equal to the tokens that each
expert was called with, views equal to the experts' own output within 3e-8; and Kimi-VL's eager `DeepseekV3Attention`:
importance equal to its own attention weights within 6e-8. Not checked: their vision towers, their processors (MolmoE's
is called in a way of its own, so its samples cannot be encoded here yet), and their flash attention.
"""


def row(family: Family) -> str:
    """One line of the table."""
    cells = (
        family.title,
        family.examples,
        f"`{class_name(family.name)}`",
        family.storage,
        REACHED[family.reached],
        "works (double)" if family.remote else "works",
        ("pictures, sound" if family.hears else "pictures") if family.pictures else "text only",
        f"no: {family.unrotated}" if family.unrotated else "yes",
        family.special or "–",
    )
    return f"| {' | '.join(cells)} |"


def refusal(kind: str) -> str:
    """The line of a family that is refused by name."""
    title, why = REFUSED[kind]
    return f"| {title} | – | `{model_class(kind)}` | – | – | refused | – | – | {why} |"


def document() -> str:
    """The whole file."""
    names = (
        "family",
        "models",
        "class",
        "storage",
        "experts reached by",
        "status",
        "tested with",
        "rotates",
        "special",
    )
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *map(row, FAMILIES), *map(refusal, REFUSED)]
    return HEAD + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    PLACE.write_text(document(), encoding="utf-8")
