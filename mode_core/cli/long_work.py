"""What the verb calibrate offers for long work: continuing, memory limits, several processes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mode_core.runs.run import Run


def rank() -> int:
    """This process's number among those that torchrun started; 0 where it is alone, and the one that prints."""
    return int(os.environ.get("RANK", "0"))


def processes_at_once() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of long work, in a group of their own."""
    group = parser.add_argument_group("long work")
    group.add_argument("--resume", action="store_true", help="continue the run in --out where it was interrupted")
    add_memory(group)


def add_memory(group: argparse._ActionsContainer) -> None:
    """The options of models larger than the memory."""
    group.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="most main memory for weights, such as 12GB; the rest is read from disk layer by layer in every pass",
    )
    group.add_argument(
        "--offload-folder",
        metavar="FOLDER",
        help="where offloaded weights are kept meanwhile (default: a temporary folder)",
    )


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """What these options say to `load_model`; nothing where the verb has none of them."""
    limit, folder = getattr(options, "max_memory", None), getattr(options, "offload_folder", None)
    return {} if limit is None else {"max_memory": limit, "offload_folder": folder}


@contextmanager
def open_run(options: argparse.Namespace) -> Iterator[Run]:
    """The run to write, held by this process: a new one, or with `--resume` the one that is there. One of several
    processes does it for all. Where nothing was measured when it ends in an error, nothing stays behind.

    Raises:
        RunError: the folder holds something and `--resume` was not given, or holds no run.
        BusyError: another process measures into it.
    """
    if rank():
        yield Run(options.out)
        return
    run = Run.open(options.out) if options.resume else Run.create(options.out)
    with run.measuring():
        yield run


@contextmanager
def processes(options: argparse.Namespace) -> Iterator[None]:
    """Join the other processes where torchrun started several; `options.device` becomes this one's own."""
    from mode_core.calibration.distributed import together

    with together(options.device) as device:
        options.device = device
        yield
