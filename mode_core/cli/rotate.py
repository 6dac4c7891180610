"""The verb `rotate`: a model's folder with its residual stream rotated, which answers as the original does."""

from __future__ import annotations

import argparse
import threading

from mode_core.cli import sample_options
from mode_core.cli.verbs import Result
from mode_core.jobs import ProgressHook

PROVEN_ON = 8  # samples, when nothing else is asked for


def add_rotate_arguments(parser: argparse.ArgumentParser, bundled_samples: str) -> None:
    """What `rotate` takes beside the model."""
    parser.add_argument("--out", required=True, help="new folder for the rotated model")
    parser.add_argument("--seed", type=int, default=0, help="of the random orthogonal matrix (default: 0)")
    words = "what proves that the logits are the original's, with pictures and without"
    sample_options.add_sample_options(parser, bundled_samples, words, limit=PROVEN_ON)


def rotate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """A model → the same function in another basis, proven on samples and written in the source's form."""
    from mode_core.export.rotated import write_rotated
    from mode_core.models import load_model, usable
    from mode_core.models.loading import asked_dtype
    from mode_core.models.weight_loading import loading_bars

    samples = sample_options.read(options, options.samples, options.images, options.limit)
    kept, trust = asked_dtype(options.dtype), options.trust_remote_code
    with loading_bars(shown=not options.quiet):
        loaded = load_model(options.model, device=options.device, dtype="float32", trust_remote_code=trust)
    samples = usable(loaded, samples, options.strict, cancel)
    done = write_rotated(loaded, options.out, samples, options.seed, None if kept == "auto" else kept, trust)
    turned = f"{done.rotated.readers} readers and {done.rotated.writers} writers"
    result: Result = {
        "folder": str(done.folder),
        "written_as": done.dtype,
        "rotated": f"{turned} of a residual stream of width {done.rotated.hidden}",
        "logits_apart_at_most": done.rotated.difference,
        "proven_on": f"{done.rotated.samples} samples, in float32",
        "not_rotated": "what enters down_proj: that needs an engine which rotates while it computes",
    }
    if done.rotated.untied:
        result["untied"] = f"{', '.join(done.rotated.untied)} has weights of its own now, beside the embedding's"
    if done.left_out:
        result["left_out"] = f"{len(done.left_out)} tensors that the model's class does not use: {done.left_out[0]}, …"
    return result | sample_options.told(samples)
