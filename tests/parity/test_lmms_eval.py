"""lmms-eval on a task of bundled evaluation items, offline: every answer and the score beside our own evaluate.

lmms-eval always adds a system message and computes in bfloat16; our side is given the same message and type.
"""

import json
import os
import subprocess

import pytest

from mode_core.cli import main
from mode_core.evaluation import evaluate
from mode_core.export import export
from mode_core.models import load_model
from mode_core.samples import read_samples
from tests.conftest import BUNDLED, packable_allocation
from tests.parity.environments import ROOT, python_with

PACKAGES = ("lmms-eval==0.7.3", "filelock<4")
EVERY, MOST, SYSTEM = 23, 16, "You are a helpful assistant."
ARGUMENTS = "pretrained={folder},device=cpu,device_map=cpu,min_pixels=16384,max_pixels=16384"  # as its processor cuts
TASK = """\
task: bundled
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_visual: !function words.pictures
doc_to_text: question
doc_to_target: answer
process_results: !function words.scored
generation_kwargs: {max_new_tokens: MOST, temperature: 0, do_sample: false}
metric_list: [{metric: exact, aggregation: mean, higher_is_better: true}]
"""
WORDS = """\
from PIL import Image


def pictures(doc):
    return [Image.open(path).convert("RGB") for path in doc["pictures"]]


def scored(doc, results):
    return {"exact": float(results[0].strip().lower() == doc["answer"].lower())}
"""


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """The samples, as a task for lmms-eval, and as samples of ours with its system message."""
    samples = read_samples(BUNDLED / "evaluation")[::EVERY]
    folder = tmp_path_factory.mktemp("items")
    (folder / "task").mkdir()
    (folder / "task" / "bundled.yaml").write_text(
        TASK.replace("DATA", str(folder / "data.jsonl")).replace("MOST", str(MOST))
    )
    (folder / "task" / "words.py").write_text(WORDS)
    theirs, ours, plain = [], [], []
    for sample in samples:
        pictures = [str(image.path) for image in sample.images]
        question = sample.text.replace("<image>", "")
        theirs.append({"id": sample.id, "question": question, "answer": sample.answer, "pictures": pictures})
        own = {"id": sample.id, "images": pictures, "answer": sample.answer}
        asked = {"role": "user", "content": "<image>" * len(pictures) + question}
        ours.append(own | {"messages": [{"role": "system", "content": SYSTEM}, asked]})
        plain.append(own | {"messages": [asked]})
    for name, rows in (("data", theirs), ("samples", ours), ("plain", plain)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder, samples


def by_lmms_eval(folder, task, place) -> tuple[float, dict[str, str]]:
    """Its score, and its answers by item."""
    python = python_with("lmms-eval", *PACKAGES, dependencies=True)
    command = [python, "-m", "lmms_eval", "--model", "qwen3_vl", "--model_args", ARGUMENTS.format(folder=folder)]
    command += [
        "--tasks",
        "bundled",
        "--include_path",
        task,
        "--batch_size",
        "1",
        "--log_samples",
        "--output_path",
        place,
    ]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub")}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=offline, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (results,), (logged,) = place.rglob("*_results.json"), place.rglob("*_samples_bundled.jsonl")
    told = {}
    for line in logged.read_text().splitlines():
        row = json.loads(line)
        told[row["doc"]["id"]] = row["filtered_resps"][0].strip()
    return json.loads(results.read_text())["results"]["bundled"]["exact,none"], told


def by_evaluate(folder, table, capsys) -> tuple[float, dict[str, str]]:
    """The verb's score of the folder as a model of its own, and its answers by item."""
    command = ["evaluate", "--run", str(BUNDLED / "run"), "--model", str(folder), "--samples", str(table), "--quiet"]
    capsys.readouterr()
    assert main([*command, "--dtype", "bfloat16", "--batch-size", "1", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    loaded = load_model(folder, device="cpu", dtype="bfloat16")
    answers = evaluate(loaded, read_samples(table), batch_size=1, max_new_tokens=MOST).answers
    print(score)
    return score["accuracy"], {answer.id: answer.given.strip() for answer in answers}


@pytest.mark.parametrize("quantized", [False, True])
def test_answers_and_score_are_those_of_evaluate(bundled_model, items, tmp_path, capsys, quantized) -> None:
    folder, samples = items
    allocation = packable_allocation(bundled_model, (2, 3) if quantized else (16,))
    out = tmp_path / "bundled-A3B"  # lmms-eval tells a MoE checkpoint by its path
    export("dequantized", allocation, out, loaded=bundled_model, group_size=32)
    score, told = by_lmms_eval(out, folder / "task", tmp_path / "results")
    ours, said = by_evaluate(out, folder / "samples.jsonl", capsys)
    plain, bare = by_evaluate(out, folder / "plain.jsonl", capsys)
    same, changed = (sum(told[name] == answer for name, answer in each.items()) for each in (said, bare))
    print(
        f"{len(samples)} items: lmms-eval {score:.4f}, evaluate {ours:.4f}, {same} answers the same; without the "
        f"system message {plain:.4f}, {changed} the same"
    )
    assert len(told) == len(samples) >= 40 and sum(bool(sample.images) for sample in samples) >= 10
    assert same == len(samples) and score == pytest.approx(ours)
