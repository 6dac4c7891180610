"""Draws the bundled samples: `python -m sample_data.draw`.

`sample_data/calibration`: pictures with a question each, and some questions without a picture (calibrating does not
look at the answers).
`sample_data/evaluation`: as many items for every task, with answers.
Both have the form of a user's own folder: `samples.jsonl` beside `images/*.png`. Pictures come from seeds that
training never uses; text-only items ask each fact in the phrasing that training never uses (see `world`).

More calibration sets, to see what another draw of samples would have changed:
`python -m sample_data.draw --draw 1 --out runs/draws/1`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sample_data.pictures import DRAWERS, Picture
from sample_data.questions import PICTURE_TASKS, UNLEARNED, questions_about
from sample_data.world import FACTS, SEVERAL, SUMS, Fact, Question

HERE = Path(__file__).parent
SEEDS = {"calibration": 990_001, "evaluation": 990_002}  # training draws from (seed, stage, step, process) instead
DRAWS = 5  # independent calibration sets that the comparison of methods uses; draw 0 is the bundled one
CALIBRATION_PICTURES = 144
CALIBRATION_TEXTS = 48  # without them nothing would tell which experts hold facts; vision stays above 75 % of tokens
EVALUATION_PER_TASK = 40
ASKED_OF_PICTURES = tuple(task for task in PICTURE_TASKS if task not in UNLEARNED)
TEXT_TASKS = tuple(dict.fromkeys(fact.task for fact in (*FACTS, *SEVERAL, *SUMS)))

Item = tuple[Question, Picture | None]


def picture_item(task: str, random: np.random.Generator, held_out: bool = False) -> Item:
    """A fresh picture and one question of that task about it; what is known is asked as training asks it, or not."""
    while True:
        picture = DRAWERS[PICTURE_TASKS[task]](random)
        asked = [q for q in questions_about(picture, random, held_out) if q.task == task]
        if asked:
            return asked[0], picture


def calibration_items(draw: int = 0) -> Iterator[Item]:
    """Pictures with questions, the picture tasks in turn; then text-only questions as training asks them.

    Draw 0 is the bundled set. Other draws have its size and mix, other pictures and other questions.
    """
    random = np.random.default_rng(SEEDS["calibration"] if draw == 0 else [SEEDS["calibration"], draw])
    tasks = ASKED_OF_PICTURES
    for i in range(CALIBRATION_PICTURES):
        yield picture_item(tasks[i % len(tasks)], random)
    for i in range(CALIBRATION_TEXTS):
        facts = facts_of(TEXT_TASKS[i % len(TEXT_TASKS)])
        phrasings = facts[random.integers(len(facts))].training_questions()
        yield phrasings[random.integers(len(phrasings))], None


def facts_of(task: str) -> list[Fact]:
    """Everything that a text-only task may ask about."""
    return [fact for fact in (*FACTS, *SEVERAL, *SUMS) if fact.task == task]


def evaluation_items() -> Iterator[Item]:
    """The same number of items for every task; text-only ones in held-out phrasings."""
    random = np.random.default_rng(SEEDS["evaluation"])
    for task in ASKED_OF_PICTURES:
        for _ in range(EVALUATION_PER_TASK):
            yield picture_item(task, random, held_out=True)
    for task in TEXT_TASKS:
        facts = facts_of(task)
        for i in random.permutation(len(facts))[:EVALUATION_PER_TASK]:
            yield facts[i].held_out_question(), None


def write(folder: Path, items: Iterator[Item]) -> int:
    """Writes samples.jsonl and images/*.png anew; returns how many samples."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, (question, picture) in enumerate(items):
        name = f"{question.task}-{number:04d}"
        line = {"id": name, "images": [], "messages": [{"role": "user", "content": question.text}]}
        if picture is not None:
            line["images"] = [f"images/{name}.png"]
            line["messages"][0]["content"] = "<image>" + question.text
            Image.fromarray(picture.pixels).save(folder / "images" / f"{name}.png", optimize=True)
        line |= {"answer": question.answer, "task": question.task}
        lines.append(json.dumps(line, ensure_ascii=False))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def main() -> None:
    """Command line: which folder to draw into."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder that gets calibration/ and evaluation/ (default: here)")
    parser.add_argument("--draw", type=int, help="only an independent calibration set of this number, into --out")
    options = parser.parse_args()
    if options.draw is not None:
        if options.out is None:
            parser.error("--draw writes a folder anew: name it with --out.")
        print(f"calibration, draw {options.draw}:", write(options.out, calibration_items(options.draw)), "samples")
        return
    out = options.out or HERE
    print("calibration:", write(out / "calibration", calibration_items()), "samples")
    print("evaluation:", write(out / "evaluation", evaluation_items()), "samples")


if __name__ == "__main__":
    main()
