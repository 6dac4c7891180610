"""The kill test: every verb is killed at random moments and at the sight of unfinished files; every reader opens then.

    python -m tests.kills 100            # a hundred kills; ends with 1 and the traceback where anything was lost
    python -m tests.kills 20 --seconds 50 --seed 3

Verbs run as forks of one process that has imported everything, on a tiny random-weight model; what is killed is a whole
process all the same (SIGKILL). After each kill everything on the disk is read; a killed calibration is continued, at
times killed again, and what it counts in the end is that of one that nobody stopped, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not live through a fork
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np

from dashboard.jobs.shelf import ModelShelf
from dashboard.jobs.work import calibrate_run
from mode_core.calibration import CalibrationSettings
from mode_core.cli.main import main
from mode_core.evaluation.records import Scores
from mode_core.files import PART
from mode_core.jobs import JobQueue
from mode_core.models import ensure_torchvision
from mode_core.quantization.packed_file import read_packed
from mode_core.runs.evidence import Evidence
from mode_core.runs.run import Run
from mode_core.samples import read_samples

IMPORTED = (  # before verbs are forked, so that none imports it for itself
    "transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe",
    "transformers.models.qwen3_vl",
    *("pydantic.type_adapter", "mode_core.calibration.calibrating", "mode_core.calibration.logit_kl"),
    *("mode_core.comparison.anchoring", "mode_core.comparison.comparing", "mode_core.export.targets"),
)
PATIENCE = 120  # seconds that a verb may take when nobody stops it


class Ground:
    """A folder with a model, samples, a finished run, and all that the verbs write."""

    def __init__(self, folder: Path, model: Path, samples: Path):
        self.folder, self.model, self.samples = folder, model, samples
        self.run, self.new, self.job = folder / "run", folder / "new", folder / "job"
        self.evidence, self.export, self.packed = folder / "evidence", folder / "export", folder / "packed.safetensors"
        of_run, quiet = ["--run", str(self.run)], ["--quiet", "--json"]
        budget = ["--bits", "2", "3", "--average-bits", "2.5"]
        given = ["--samples", str(samples), "--batch-size", "2"]
        self.verbs: dict[str, Callable[[], object]] = {
            "calibrate": lambda: self.calibrate(self.new),
            "allocate": lambda: main(["allocate", *of_run, *budget, "--name", "three", *quiet]),
            "quantize": lambda: main(
                ["quantize", *of_run, "--allocation", "three", "--out", str(self.packed), *quiet]
            ),
            "evaluate": lambda: main(["evaluate", *of_run, "--uniform", "2", *given, "--name", "two", *quiet]),
            "export": lambda: main(
                ["export", *of_run, "--allocation", "three", "--target", "dequantized", "--out", str(self.export),
                 *quiet]
            ),
            "compare": lambda: main(
                ["compare", "--runs", str(self.run), *given, "--methods", "mode", "uniform", *budget, "--truth-bits",
                 "--draws", "2", "--resamples", "100", "--out", str(self.evidence), *quiet]
            ),
            "job": self.as_a_job,
        }  # fmt: skip

    def calibrate(self, out: Path) -> int:
        """Calibrate with gradients and the KL of the answer; what is there is continued."""
        resume = ["--resume"] if (out / "run.json").is_file() else []
        return main(
            ["calibrate", "--model", str(self.model), "--samples", str(self.samples), "--out", str(out), *resume,
             "--measure-bits", "2", "3", "--batch-size", "2", "--checkpoint-samples", "2", "--exemplars", "2",
             "--gradients", "--logit-kl", "--yes", "--logit-kl-samples", "2", "--quiet", "--json"]
        )  # fmt: skip

    def as_a_job(self) -> int:
        """The same without KL on the worker thread of a dashboard's queue."""
        settings = CalibrationSettings(bits=(2, 3), batch_size=2, checkpoint_samples=2, exemplars=2, gradients=True)
        job = JobQueue().submit(
            "calibration", "calibrate:job", calibrate_run, ModelShelf(), str(self.model),
            list(read_samples(self.samples)), settings, self.job, resume=(self.job / "run.json").is_file(),
        )  # fmt: skip
        while job.active:
            time.sleep(0.01)
        return 0 if job.state == "done" else 1

    def check(self) -> None:
        """Read everything; whatever cannot be read is raised."""
        for path in (self.run, self.new, self.job):
            if not (path / "run.json").is_file():
                assert path != self.run, "the finished run is gone"
                continue
            run = Run.open(path)
            for kept in (run.statistics, run.sample_records(), run.token_scores(), run.exemplars()):
                assert kept is not None or run.state != "done" or path != self.run
            for allocation in run.allocations().values():
                assert allocation.average_bits <= 3
            for record in run.evaluations().values():
                Scores.from_dict(record)
            assert not list(path.rglob(f".*{PART}")), "unfinished files stay after the run was opened"
        if self.packed.exists():
            assert read_packed(self.packed).experts
        manifest = json.loads((self.export / "manifest.json").read_text())
        for name, told in manifest["files"].items():
            assert hashlib.sha256((self.export / name).read_bytes()).hexdigest() == told["sha256"], name
        assert len(Evidence.load(self.evidence).scores)


def forked(work: Callable[[], object], quiet: bool = True) -> int:
    """A process that does this work and nothing else; its number."""
    if child := os.fork():
        return child
    code = 1
    try:
        for stream in (1, 2) if quiet else (1,):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        code = int(work() or 0)
    finally:
        os._exit(code)


def finished(work: Callable[[], object]) -> float:
    """Do the work in a process of its own to its end; seconds."""
    began, child = time.monotonic(), forked(work, quiet=False)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("a verb that nobody stopped has failed; see above")
    return time.monotonic() - began


def killed(work: Callable[[], object], folder: Path, delay: float, at_sight: bool) -> bool:
    """Start the work and kill it after `delay` seconds, or at the first unfinished file after that; False where it had
    ended before."""
    child, began = forked(work), time.monotonic()
    while time.monotonic() - began < PATIENCE:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        if time.monotonic() - began >= delay and (not at_sight or next(folder.rglob(f".*{PART}"), None)):
            break
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def counts(path: Path) -> dict[str, np.ndarray]:
    """What must agree bit for bit between runs that were stopped and one that was not."""
    kept = ("selections", "support", "tokens")
    return {
        f"{bank.name} {key}": value
        for bank in Run.open(path).statistics
        for key, value in bank.arrays.items()
        if key.split("/")[0].endswith(kept)
    }


def try_kills(kills: int, seconds: float, seed: int, say: Callable[[str], object] = print) -> Counter:
    """Kill until `kills` were made or the time is up, which begins when each verb was finished once; how many of each
    verb. Whatever is lost is raised."""
    draw, made = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory(prefix="mode-kills-") as place:
        ground = prepared(Path(place))
        took = {name: finished(work) for name, work in ground.verbs.items()}
        whole = {path: counts(path) for path in (ground.new, ground.job)}
        ground.check()
        for path in whole:
            shutil.rmtree(path)
        names, began = list(ground.verbs), time.monotonic()
        while sum(made.values()) < kills and time.monotonic() - began < seconds:
            name = names[sum(made.values()) % len(names)]
            if name == "compare" and draw.random() < 0.5:  # else it goes on with what was measured
                shutil.rmtree(ground.evidence / "measured", ignore_errors=True)
            if killed(ground.verbs[name], ground.folder, draw.uniform(0, took[name]), draw.random() < 0.5):
                made[name] += 1
                say(f"{sum(made.values())}: {name}")
            ground.check()
            path = {"calibrate": ground.new, "job": ground.job}.get(name)
            if path is not None and draw.random() < 0.5:
                finished(ground.verbs[name])
                for key, value in counts(path).items():
                    np.testing.assert_array_equal(value, whole[path][key], err_msg=f"{name}: {key}")
                shutil.rmtree(path)
    return made


def prepared(place: Path) -> Ground:
    """A ground in an empty folder: the model, eight samples and a finished run are made in processes of their own."""
    from tests.conftest import drawn_picture, save_tiny_model

    ensure_torchvision()
    for name in IMPORTED:
        import_module(name)
    ground = Ground(place, place / "tiny", place / "samples")
    finished(lambda: save_tiny_model(ground.model) and None)
    lines, draw = [], np.random.default_rng(1)
    (ground.samples / "images").mkdir(parents=True)
    for number in range(6):
        drawn_picture(32 + 8 * (number % 3), 32, draw).save(ground.samples / "images" / f"{number}.png")
        lines.append({"image": f"images/{number}.png", "text": "what colour is the circle ?", "task": "colour"})
    lines += [{"images": [], "text": f"how many circle are there , {number} ?", "task": "text"} for number in range(2)]
    lines = [json.dumps(line | {"answer": "red", "id": str(number)}) for number, line in enumerate(lines)]
    (ground.samples / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    finished(lambda: ground.calibrate(ground.run))
    return ground


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long (preparing not counted)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    done = try_kills(options.kills, options.seconds, options.seed, lambda told: print(told, file=sys.stderr))
    print(json.dumps({"kills": sum(done.values()), **done}))
