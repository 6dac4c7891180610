"""Parsers made from settings, settings made from what was parsed, and the command that stands for it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from mode_core.cli.sample_options import add_choice_options
from mode_core.errors import SettingsError
from mode_core.request import MEASURES, AllocationRequest, Quantizer
from mode_core.settings import Settings

QUIET = ("json", "quiet")  # options that only shape what is printed
Made = TypeVar("Made", bound=Settings)


def add_settings(
    parser: argparse.ArgumentParser,
    base: Settings,
    title: str,
    only: Collection[str] = (),
    short: Mapping[str, str] | None = None,
) -> argparse._ArgumentGroup:
    """A group of options, one for every field that has a flag (of those named in `only`, where some are); the values
    of `base` are told as the defaults. `short`: flag → a second name of it."""
    group = parser.add_argument_group(title)
    for one in fields(base):
        if not one.metadata.get("flag") or (only and one.name not in only):
            continue
        argument = dict(one.metadata["argument"])
        argument.pop("read", None)
        default = argument.pop("unset", None) or " ".join(one.metadata["say"](getattr(base, one.name))) or "none"
        if callable(argument.get("choices")):
            argument["choices"] = argument["choices"]()
        if argument.get("action") == "boolean":
            argument["action"] = argparse.BooleanOptionalAction
        told = "" if argument.get("action") == "store_true" else f" (default: {default})"
        flag = one.metadata["flag"]
        names = [short[flag], flag] if short and flag in short else [flag]
        dest = flag.lstrip("-").replace("-", "_")
        group.add_argument(*names, dest=dest, default=None, help=one.metadata["words"] + told, **argument)
    return group


def read_settings(base: Made, options: argparse.Namespace, **given: Any) -> Made:
    """Settings from what was parsed; what was not said is as in `base`, and `given` counts before all. A refusal names
    the option, not the field.

    Raises:
        SettingsError: a word that cannot be read, or settings that make no sense.
    """
    flags = {one.name: one.metadata.get("flag", "") for one in fields(base)}
    for one in fields(base):
        flag, argument = flags[one.name], one.metadata.get("argument", {})
        value = getattr(options, flag.lstrip("-").replace("-", "_"), None) if flag else None
        if value is None or one.name in given:
            continue
        try:
            given[one.name] = argument["read"](value) if "read" in argument else value
        except (ValueError, TypeError, KeyError):
            shown = " ".join(value) if isinstance(value, list) else value
            raise SettingsError(f"{flag} takes {argument['metavar']} ({one.metadata['words']}); got {shown}.") from None
    try:
        return replace(base, **given)
    except SettingsError as refused:
        field, _, rest = str(refused).partition(" ")
        raise SettingsError(f"{flags.get(field) or field} {rest}") from None


def add_request(parser: argparse.ArgumentParser) -> None:
    """Every option of an `AllocationRequest`, its budget in one of three units."""
    group = add_settings(parser, AllocationRequest(), "what is asked for")
    for (flag, _), words in zip(
        MEASURES.values(),
        ("mean bits of the experts' weights (default: 3)", "instead: packed size of all experts in MB (10^6 bytes)",
         "instead: size of the whole model in MB (10^6 bytes)"),
        strict=True,
    ):  # fmt: skip
        group.add_argument(flag, type=float, help=words)


def read_request(options: argparse.Namespace) -> AllocationRequest:
    """The request that was parsed; raises as `read_settings`, or for two budgets."""
    values = {measure: getattr(options, flag[2:].replace("-", "_")) for measure, (flag, _) in MEASURES.items()}
    said = {measure: value for measure, value in values.items() if value is not None}
    if len(said) > 1:
        raise SettingsError(f"Give one budget, not both: {' and '.join(MEASURES[measure][0] for measure in said)}.")
    budget: dict[str, Any] = {}
    for measure, value in said.items():
        amount = value if measure == "bits" else round(value * MEASURES[measure][1])
        budget = {"measure": measure, "budget": float(amount)}
    return read_settings(AllocationRequest(), options, **budget)


def add_quantizer(
    parser: argparse.ArgumentParser,
    samples_option: str,
    bundled_calibration: str,
    only: Collection[str] = (),
    with_choice: bool = False,
) -> None:
    """The options of a `Quantizer`; `samples_option` names the samples for those that look at data. `with_choice`: the
    parser has the options of choosing samples already."""
    own = samples_option == "--samples"
    short = {"--quantizer-limit": "--limit"} if own else {}
    group = add_settings(parser, Quantizer(), "how the weights are rounded", only, short)
    group.add_argument(
        samples_option,
        dest="quantizer_samples",
        default=bundled_calibration,
        help=f"calibration samples that gptq looks at (default: {bundled_calibration})",
    )
    group.add_argument(
        *(["--images"] if own else []), "--quantizer-images", dest="quantizer_images", metavar="FOLDER",
        help="where the paths of their pictures begin",
    )  # fmt: skip
    if not with_choice:
        add_choice_options(group)
    group.add_argument(
        "--by-modality",
        action="store_true",
        help="short for --gptq weighting=modality: text and key tokens count alike, redundant vision tokens not at all",
    )
    group.add_argument(
        "--by-affinity",
        action="store_true",
        help="short for --gptq weighting=modality affinity=1 (VEQ-MA, adapted): besides, a token counts as much as its "
        "routing weight for the expert",
    )


def read_quantizer(options: argparse.Namespace) -> Quantizer:
    """The quantizer that was parsed; raises as `read_settings`."""
    if getattr(options, "by_modality", False):
        options.gptq = [*(options.gptq or []), "weighting=modality"]
    if getattr(options, "by_affinity", False):
        options.gptq = [*(options.gptq or []), "weighting=modality", "affinity=1"]
    return read_settings(Quantizer(), options)


def command_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The command line that these options of a verb stand for, without what is on its default or only shapes output."""
    words = ["python", "-m", *parser.prog.split()[-2:]]
    for action in parser._actions:
        value = getattr(options, action.dest, argparse.SUPPRESS)
        if value in (argparse.SUPPRESS, action.default) or action.dest in QUIET:
            continue
        if isinstance(action, argparse.BooleanOptionalAction):
            words.append(action.option_strings[0 if value else 1])
        elif action.nargs == 0:
            words.append(action.option_strings[0])
        else:
            many = value if isinstance(value, list) else [value]
            words += [action.option_strings[0], *(f"{one:g}" if isinstance(one, float) else str(one) for one in many)]
    return shlex.join(words)
