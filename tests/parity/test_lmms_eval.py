"""lmms-eval 0.7.3 on a task of bundled evaluation items, offline: every answer and the score beside our own evaluate.

lmms-eval always adds a system message and computes in bfloat16; our side is given the same message and type. It ends
with exit code 0 after an error unless it is asked to be verbose.
"""

import json
import os
import subprocess

import pytest

from mode_core.evaluation import evaluate
from mode_core.export import export
from mode_core.models import load_model
from mode_core.samples import read_samples
from tests.conftest import BUNDLED, packable_allocation
from tests.parity.environments import ROOT, python_with

PACKAGES = ("lmms-eval==0.7.3", "filelock<4", "decord")
ITEMS, MOST, SYSTEM = 40, 16, "You are a helpful assistant."
TASK = """\
task: bundled
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_visual: !function words.pictures
doc_to_text: question
doc_to_target: answer
generation_kwargs: {max_new_tokens: MOST, temperature: 0, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
"""
WORDS = """\
from PIL import Image


def pictures(doc):
    return [Image.open(path).convert("RGB") for path in doc["pictures"]]
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Questions of one turn and one answer, as a task for lmms-eval and as samples of ours with its system message."""
    samples = [
        sample
        for sample in read_samples(BUNDLED / "evaluation")
        if len(sample.messages) == 1 and len(sample.answers) == 1 and not sample.videos and not sample.audio
    ]
    folder, theirs, ours = tmp_path_factory.mktemp("items"), [], []
    for sample in samples[:: max(1, len(samples) // ITEMS)]:
        pictures = [str(image.path) for image in sample.images]
        question = sample.text.replace("<image>", "")
        theirs.append({"question": question, "answer": sample.answer, "pictures": pictures})
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "<image>" * len(pictures) + question},
        ]
        ours.append({"id": sample.id, "images": pictures, "answer": sample.answer, "messages": messages})
    assert 10 <= sum(bool(one["pictures"]) for one in theirs) <= len(theirs) - 10
    for name, rows in (("data", theirs), ("samples", ours)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "task").mkdir()
    (folder / "task" / "words.py").write_text(WORDS)
    task = TASK.replace("DATA", str(folder / "data.jsonl")).replace("MOST", str(MOST))
    (folder / "task" / "bundled.yaml").write_text(task)
    return folder / "task", read_samples(folder / "samples.jsonl")


def by_lmms_eval(folder, task, place, pixels: dict[str, int]) -> tuple[float, list[str]]:
    """Its score, and its answers in the items' order."""
    python = python_with("lmms-eval", *PACKAGES, dependencies=True)
    arguments = f"pretrained={folder},device=cpu,device_map=cpu,min_pixels={pixels['shortest_edge']}"
    arguments += f",max_pixels={pixels['longest_edge']}"
    command = [python, "-m", "lmms_eval", "--model", "qwen3_vl", "--model_args", arguments, "--tasks", "bundled"]
    command += ["--include_path", task, "--batch_size", "1", "--log_samples", "--output_path", place]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub")}
    done = subprocess.run(
        [*map(str, command), "--verbosity", "DEBUG"], capture_output=True, text=True, cwd=ROOT, env=offline, timeout=280
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (results,), (logged,) = place.rglob("*_results.json"), place.rglob("*_samples_bundled.jsonl")
    rows = sorted(map(json.loads, logged.read_text().splitlines()), key=lambda row: row["doc_id"])
    score = json.loads(results.read_text())["results"]["bundled"]["exact_match,none"]
    return score, [row["filtered_resps"].strip() for row in rows]


@pytest.mark.parametrize("widths", [(16,), (2, 3)])
def test_answers_and_score_are_those_of_evaluate(bundled_model, asked, tmp_path, widths) -> None:
    task, samples = asked
    out = tmp_path / "bundled-A3B"  # lmms-eval tells a MoE checkpoint by its path
    export("dequantized", packable_allocation(bundled_model, widths), out, loaded=bundled_model, group_size=32)
    loaded = load_model(out, device="cpu", dtype="bfloat16")
    score, told = by_lmms_eval(out, task, tmp_path / "results", loaded.processor.image_processor.size)
    ours = evaluate(loaded, samples, batch_size=1, max_new_tokens=MOST)
    print(f"{len(samples)} items at {widths} bits: lmms-eval {score:.4f}, evaluate {ours.accuracy:.4f}")
    assert told == [answer.given.strip() for answer in ours.answers]
    assert score == pytest.approx(ours.accuracy) and 0 < score < 1
