"""The verbs `run` (a recipe.yaml carried out) and `push` (an export to the hub)."""

from __future__ import annotations

import argparse
import threading

from mode_core.cli import long_work
from mode_core.cli.verbs import Result
from mode_core.jobs import ProgressHook


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What `run` takes beside the recipe."""
    parser.add_argument("recipe", help="the recipe.yaml of an export, or one of your own of the same form")
    parser.add_argument("--run", required=True, help="folder of the new run")
    parser.add_argument("--out", required=True, help="folder to export into")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run where it was interrupted")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with the model; only for models whose code you have read",
    )
    long_work.add_memory(parser)


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """What `push` takes."""
    parser.add_argument("folder", help="folder of an export")
    parser.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository; made where there is none")
    parser.add_argument("--public", action="store_true", help="for everyone to see (default: a private repository)")
    parser.add_argument("--message", help="of the commit (default: title and bits)")
    parser.add_argument(
        "--endpoint", metavar="URL", help="address of the hub (default: HF_ENDPOINT, or the public one)"
    )


def run(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """A recipe → a new run, its bits, and the export."""
    from functools import partial

    from mode_core.export.recipe import Recipe
    from mode_core.export.repeating import repeat
    from mode_core.models import load_model
    from mode_core.models.weight_loading import loading_bars

    recipe, trust = Recipe.read(options.recipe), {"trust_remote_code": options.trust_remote_code}
    load = partial(load_model, device=options.device, **trust, **long_work.memory(options))
    with loading_bars(shown=not options.quiet):
        done = repeat(
            recipe, options.run, options.out, load, resume=options.resume, progress=progress, cancel=cancel, **trust
        )
    result: Result = {
        "run": options.run,
        "folder": options.out,
        "target": recipe.record["export"]["target"],
        "average_bits": done.result.fitted.allocation.average_bits,
        "bytes": done.result.manifest["bytes"],
    }
    if done.same_bits is not None:
        result["bits"] = "those of the recipe" if done.same_bits else (
            "NOT those of the recipe: another machine or other versions add up in another order, and close calls fall "
            "otherwise (made_with in the recipe has its versions)"
        )  # fmt: skip
    return result


def push(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """An export → a repository of the hub."""
    from mode_core.export.pushing import push as upload

    done = upload(options.folder, options.to, public=options.public, message=options.message, endpoint=options.endpoint)
    seen = "public" if options.public else "private where it was made now"
    return {
        "commit": done.address,
        "files": len(done.files),
        "bytes": done.bytes,
        "repository": f"{options.to}, {seen}",
    }
