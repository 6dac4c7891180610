"""Which samples a verb works on: the options, the samples, and what is told of those that were left out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mode_core.errors import SettingsError

if TYPE_CHECKING:
    from mode_core.request import Quantizer
    from mode_core.samples import SampleList

FORMS = "folder, JSON, JSON Lines, CSV, TSV, Parquet or zip"
MOST_SHOWN = 50  # samples left out that are named in a result; run.json names more


def add_sample_options(
    parser: argparse.ArgumentParser, default: str, words: str = "what to measure on", limit: int | None = None
) -> None:
    """Where samples come from and which of them are taken; all of them where no other `limit` is the default."""
    group = parser.add_argument_group("the samples")
    group.add_argument("--samples", default=default, help=f"{words}: {FORMS} (default: {default})")
    group.add_argument(
        "--images", metavar="FOLDER", help="where the pictures' paths begin (default: beside the table, or above it)"
    )
    usual = f" (default: {limit})" if limit else ""
    group.add_argument(
        "--limit", type=int, default=limit, metavar="N",
        help=f"only N samples, drawn evenly by task and by having a picture{usual}",
    )  # fmt: skip
    add_choice_options(group)


def add_choice_options(group: argparse._ActionsContainer) -> None:
    """How samples are drawn, and what becomes of bad ones."""
    group.add_argument("--first", action="store_true", help="with a limit: the first N, nothing after them is read")
    group.add_argument("--draw-seed", type=int, default=0, metavar="SEED", help="of drawing N samples (default: 0)")
    group.add_argument(
        "--strict", action="store_true", help="end at the first bad sample (default: it is left out and named)"
    )


def read(options: argparse.Namespace, path: str, images: str | None, limit: int | None) -> SampleList:
    """The samples that the options name; bad ones are in `.errors`.

    Raises:
        SampleError: nothing usable, or with --strict the first that is bad.
    """
    from mode_core.samples import read_samples

    limits = (getattr(options, name, None) for name in ("limit", "quantizer_limit"))
    if options.first and all(given is None for given in limits):
        raise SettingsError("--first says which samples a limit takes; give --limit N with it.")
    on_error = "raise" if options.strict else "collect"
    found = read_samples(path, images, on_error, limit, options.first, options.draw_seed)
    for note in found.notes:
        print(note, file=sys.stderr)
    return found


def looked_at(options: argparse.Namespace, quantizer: Quantizer) -> SampleList | None:
    """The calibration samples that a quantizer looks at, as many as it says; None where it looks at none."""
    if not quantizer.kind.needs_samples:
        return None
    return read(options, options.quantizer_samples, options.quantizer_images, quantizer.samples)


def told(samples: SampleList, refused: Sequence[Mapping[str, str]] | None = None) -> dict[str, object]:
    """What a result says of the samples: how they were drawn, how many were left out, and why (of very many the first).

    `refused` (sample, reason) is the whole list where a run keeps one; else the samples' own errors are.
    """
    if refused is None:
        from mode_core.calibration.measurement import unread

        refused = unread(samples.errors)
    result: dict[str, object] = {"drawn": dict(samples.drawn)} if samples.drawn else {}
    result["left_out"] = len(refused)
    if refused:
        result["left_out_because"] = {entry["sample"]: entry["reason"] for entry in refused[:MOST_SHOWN]}
    return result
