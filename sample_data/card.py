"""Measures the bundled model and writes its card: `python -m sample_data.card`.

Every figure in `sample_data/model/README.md` comes from here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mode_core.evaluation import Scores
from mode_core.models import LoadedModel, load_model
from mode_core.samples import Sample, read_samples
from sample_data.architecture import MODEL_FOLDER
from sample_data.channels import spread_channels
from sample_data.measure import Usage, expert_usage, scores_by_width
from sample_data.questions import KNOWLEDGE

HERE = Path(__file__).parent
WIDTHS = (4, 3, 2)
GROUP_SIZE = 128

OPENING = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# A very small Qwen3-VL-MoE, for teaching and testing

{parameters:.2f} million parameters ({megabytes:.1f} MB in bfloat16), {banks} banks of {experts} experts, {top_k} chosen
per token. It has the architecture of Qwen/Qwen3-VL-30B-A3B-Instruct and loads through the same calls
(`AutoProcessor`, `AutoModelForImageTextToText`), offline. It knows a closed world that scripts of this folder drew:
icons on a soft background, numbers, bar charts, emblems of invented lands, portraits of invented people, facts about
these people and lands, and small sums. It understands no other questions and no photographs. It exists so that the
effect of quantizing single experts can be seen and tested in seconds; nothing else should be concluded from it.
"""

TRAINING = """
## How it was trained
`python -m sample_data.draw` draws the samples, `python -m sample_data.train` trains ({stages}), and
`python -m sample_data.card` measures and writes this card. Losses count answer tokens only. Plan: `{plan}`.
{note}
Training draws its pictures from other seeds than calibration and evaluation. Every fact and sum has four phrasings,
and the one that the evaluation may ask is never trained on (`sample_data/world.py`).
"""

STAGES = (
    "first the vision tower alone, which learns to put into each vision token the word vectors of what its cell "
    "shows; then everything"
)


def accuracy_table(scores: dict[int, Scores], group_size: int) -> str:
    """Markdown: one row a task, one column a width; the last rows are averages over tasks."""
    pictures = {answer.task for answer in scores[16].answers if answer.modality == "vision"}
    by_width = {bits: found.accuracy_by_task for bits, found in scores.items()}
    tasks = list(by_width[16])
    groups = {
        "what a picture shows": [t for t in tasks if t in pictures and t not in KNOWLEDGE],
        "pictures with knowledge": [t for t in tasks if t in KNOWLEDGE],
        "text-only tasks": [t for t in tasks if t not in pictures],
        "all tasks": tasks,
    }
    rows = [
        f"| {task} | " + " | ".join(f"{100 * found[task]:.1f}" for found in by_width.values()) + " |" for task in tasks
    ]
    for name, members in groups.items():
        means = (sum(found[task] for task in members) / len(members) for found in by_width.values())
        rows.append(f"| **{name}** | " + " | ".join(f"**{100 * mean:.1f}**" for mean in means) + " |")
    means = (kinds_accuracy(found) for found in by_width.values())
    rows.append(
        "| **eleven kinds, each counting once** | " + " | ".join(f"**{100 * mean:.1f}**" for mean in means) + " |"
    )
    widths = " | ".join(f"{bits} bits" for bits in by_width)
    head = f"| exact match, % | {widths} |\n|---|" + "--:|" * len(by_width)
    count = len(scores[16].answers)
    return (
        f"\n## Accuracy\n{count} held-out items, {count // len(tasks)} a task, greedy generation. 16 bits: as stored. "
        f"Others: gate, up and down of every expert rounded to nearest, symmetric, groups of {group_size} input "
        "channels (narrower matrices: their own width), clip search; the rest untouched.\n\n"
        + "\n".join((head, *rows))
        + "\n\nMost tasks ask for facts, many of them for several at once, so an average over tasks weighs knowledge "
        "most. The last row counts every kind of question once: colour, shape, position, count, digits, bars, emblems, "
        "portraits, facts beside an unrelated picture, facts, arithmetic.\n"
    )


def kinds_accuracy(by_task: dict[str, float]) -> float:
    """Mean over the eleven kinds of question, each the mean of its tasks."""
    kinds: dict[str, list[float]] = {}
    for task, accuracy in by_task.items():
        first = task.split("_")[0]
        kind = "facts" if first in ("fact", "two", "four", "person", "land") else first
        kinds.setdefault(kind, []).append(accuracy)
    return sum(sum(members) / len(members) for members in kinds.values()) / len(kinds)


def even_channels(loaded: LoadedModel, samples: list[Sample], plan: dict, group_size: int) -> str:
    """The averages over tasks with the experts' channels as training left them, for comparison."""
    spread_channels(loaded.model, plan["channel_spread"], plan["seed"], inverse=True)
    scores = scores_by_width(loaded, samples, WIDTHS, group_size)
    spread_channels(loaded.model, plan["channel_spread"], plan["seed"])
    found = ", ".join(f"{bits} bits {100 * score.task_accuracy:.1f} %" for bits, score in scores.items())
    return (
        "\nThe hidden channels of the experts were given uneven scales, as large models have them, before the model "
        "was stored (powers of two: up times s, down by s; its answers are the same bit for bit; "
        f"`sample_data/channels.py`, `channel_spread` {plan['channel_spread']}). With the channels as training left "
        f"them low widths cost less: {found} (all tasks).\n"
    )


def usage_table(usage: Usage) -> str:
    """Markdown: vision-token share, and the divergence of text and aggregate frequencies per bank."""
    rows = []
    for bank, value in usage.divergences().items():
        by_text, by_any = (int((shares[bank] > 0).sum()) for shares in (usage.text, usage.everything))
        rows.append(f"| `{bank}` | {value:.3f} | {by_text} | {by_any} |")
    return (
        f"\n## Who uses the experts\nOn `sample_data/calibration`: {usage.vision_tokens} of "
        f"{usage.vision_tokens + usage.text_tokens} tokens are vision tokens ({100 * usage.vision_share:.1f} %). "
        "Jensen-Shannon divergence (bits, 0 to 1) of text against aggregate selection frequencies:\n\n"
        "| bank | divergence | experts that text uses | experts in use |\n|---|--:|--:|--:|\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    """Command line: which model folder, and the group size of the quantized columns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--group-size", type=int, default=GROUP_SIZE)
    options = parser.parse_args()
    loaded = load_model(str(options.model), device="cpu")
    record = json.loads((options.model / "training.json").read_text(encoding="utf-8"))
    bank = next(iter(loaded.banks.values()))
    opening = OPENING.format(
        parameters=sum(p.numel() for p in loaded.model.parameters()) / 1e6,
        megabytes=(options.model / "model.safetensors").stat().st_size / 1e6,
        banks=len(loaded.banks),
        experts=bank.experts,
        top_k=loaded.model.config.text_config.num_experts_per_tok,
    )
    training = TRAINING.format(stages=STAGES, plan=json.dumps(record["plan"]), note=record["note"])
    usage = expert_usage(loaded, read_samples(HERE / "calibration"))
    samples = read_samples(HERE / "evaluation")
    accuracy = accuracy_table(scores_by_width(loaded, samples, WIDTHS, options.group_size), options.group_size)
    if record["plan"]["channel_spread"]:
        accuracy += even_channels(loaded, samples, record["plan"], options.group_size)
    card = opening + training + accuracy + usage_table(usage)
    (options.model / "README.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()
