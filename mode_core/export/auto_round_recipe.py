"""A recipe for AutoRound: `layer_config.json`, `calibration.json` of the run's own samples, and the script that runs.

As AutoRound 0.16.1 reads it. The width at the top must be one that it packs (16 there makes a checkpoint that nothing
loads), all that is no routed expert is listed at 16 bits, and a group must divide the row that it lies in, or the
matrix is "newly initialised" on loading.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from mode_core.errors import ExportError
from mode_core.export.expert_modules import ExpertModule, expert_modules
from mode_core.export.int32 import most_common_width
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    from mode_core.samples import Sample

LAYER_CONFIG, CALIBRATION, SCRIPT = "layer_config.json", "calibration.json", "quantize.py"
MOST_SAMPLES = 128  # AutoRound's own number
NO_EXPERT = r"^(?!.*experts[.][0-9]+[.])"  # matches the name of every linear layer but a routed expert's
NO_SAMPLES = (
    "The run does not say where its samples lie, so calibration.json is missing: export on the command line with "
    "--calibration FOLDER, or run quantize.py with --data of your own in its form."
)
_SCRIPT = Template('''\
"""AutoRound (tried: 0.16.1) at the bits of layer_config.json; everything but routed experts stays at 16 bits.

    pip install auto-round
    python quantize.py $model --out tuned

What is calibrated with, pictures included: calibration.json, a list of chats whose pictures are base64.
"""

import argparse
import base64
import io
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = {"bits": $bits, "group_size": $group, "sym": $symmetric}  # of most experts; layer_config.json has each one's own
BESIDE = {r"$no_expert": {"bits": 16, "data_type": "float"}}  # attention, shared experts, vision, the head


def chats(path: Path, reads_pictures: bool) -> list:
    """The chats in a processor's form; for a tokenizer as text alone."""
    from PIL import Image

    held = json.loads(path.read_text(encoding="utf-8"))
    for part in (part for chat in held for turn in chat for part in turn["content"] if part["type"] == "image"):
        part["image"] = Image.open(io.BytesIO(base64.b64decode(part["image"]))).convert("RGB")
    if reads_pictures:
        return held
    return [[{"role": turn["role"], "content": "".join(part.get("text", "") for part in turn["content"])}
             for turn in chat] for chat in held]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="folder or hub id of the original")
    parser.add_argument("--out", default="tuned")
    parser.add_argument("--data", type=Path, default=HERE / "calibration.json")
    parser.add_argument("--steps", type=int, default=200, help="tuning steps a layer")
    parser.add_argument("--device", default="0", help="number of a GPU, or cpu")
    given = parser.parse_args()

    from auto_round import AutoRound
    from transformers import AutoProcessor

    reader = AutoProcessor.from_pretrained(given.model)  # a tokenizer, where the model reads text only
    data = [
        dict(reader.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt"))
        for chat in chats(given.data, hasattr(reader, "image_processor"))
    ]
    experts = json.loads((HERE / "layer_config.json").read_text(encoding="utf-8"))
    tuner = AutoRound(
        given.model, **TOP, layer_config=experts | BESIDE, dataset=data, nsamples=len(data), batch_size=1,
        seqlen=max(one["input_ids"].shape[1] for one in data), iters=given.steps, low_gpu_mem_usage=True,
        device_map=int(given.device) if given.device.isdigit() else given.device,
        enable_torch_compile=given.device != "cpu",
    )
    tuner.quantize_and_save(given.out, format="auto_round")


if __name__ == "__main__":  # AutoRound starts processes that read this file again
    main()
''')


def write_auto_round_recipe(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the three files; without samples two, and a sentence that says so.

    Raises:
        ExportError: the shapes of the banks are not known.
    """
    if not (shapes := request.shapes()):
        raise ExportError("Group sizes depend on the experts' shapes; give the run or the model.")
    modules = list(expert_modules(request.allocation.bits, shapes))
    entries = {module.name: _entry(module, request) for module in modules}
    (folder / LAYER_CONFIG).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    source = request.source or {}
    script = _SCRIPT.substitute(
        model=str(source.get("source", "MODEL")), bits=most_common_width(request.allocation.bits),
        group=max(_group(module, request) for module in modules), symmetric=request.symmetric, no_expert=NO_EXPERT,
    )  # fmt: skip
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    if not request.samples:
        return (NO_SAMPLES,)
    return _write_samples(request.samples, folder / CALIBRATION)


def _group(module: ExpertModule, request: Request) -> int:
    """Input channels that share a scale: those asked for, or the most that divide the row."""
    return math.gcd(module.channels, module.group(request.group_size))


def _entry(module: ExpertModule, request: Request) -> dict[str, object]:
    if module.bits == UNTOUCHED:
        return {"bits": UNTOUCHED, "data_type": "float"}
    return {"bits": module.bits, "group_size": _group(module, request), "sym": request.symmetric, "data_type": "int"}


def _write_samples(samples: Sequence[Sample], path: Path) -> tuple[str, ...]:
    """Chats in the form of transformers' templates, pictures as they were, the answer last; videos are left out."""
    still = [sample for sample in samples if not sample.videos]
    if not still:
        raise ExportError("All samples are videos, which the recipe's script does not read; give some with pictures.")
    path.write_text(json.dumps([list(_chat(sample)) for sample in still[:MOST_SAMPLES]]) + "\n", encoding="utf-8")
    left = len(samples) - len(still)
    return (f"{left} samples with videos are not in {CALIBRATION}.",) if left else ()


def _chat(sample: Sample) -> Iterator[dict[str, Any]]:
    pictures = iter(sample.media)
    for turn in sample.prompt():
        for part in turn["content"]:
            if part["type"] == "image":
                part["image"] = base64.b64encode(next(pictures).read()).decode()
        yield turn
    if sample.answer is not None:
        yield {"role": "assistant", "content": [{"type": "text", "text": sample.answer}]}
