"""README.md of an exported checkpoint, as the hub reads it: from what and how it was made, its cost, how to load it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mode_core.errors import ExportError, ModeError, SettingsError
from mode_core.evaluation.records import MODALITIES, Scores
from mode_core.export.recipe import RECIPE, digest_of_bits
from mode_core.export.request import Request
from mode_core.export.weights import source_folder
from mode_core.importance import METHODS
from mode_core.request import AllocationRequest
from mode_core.runs.records import tokens_in_words
from mode_core.versions import versions
from mode_core.yaml_files import front_matter, yaml_of

if TYPE_CHECKING:
    from torch import nn

    from mode_core.export.target import Fitted, Target
    from mode_core.runs.run import Run

CARD = "README.md"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
INHERITED = ("license", "license_name", "license_link", "language", "pipeline_tag")  # from the original's own card
NO_ID = (
    "The original lay in a folder, so its hub id is not known: export with `--base-model OWNER/NAME`, or write "
    "`base_model` and `base_model_relation: quantized` above before it is published."
)
NO_LICENCE = (
    "The original's card beside its weights names no licence, so none stands above: whoever publishes this looks it "
    "up, and writes it there."
)


def loading(target: Target, request: Request) -> dict[str, object] | None:
    """How an exported checkpoint is loaded: lines of Python to run in its folder, and the versions that they were tried
    with (none: they were not run here). None where nothing loads it."""
    if not target.load:
        return None
    network = request.network if request.loaded is None else request.loaded.model
    words = _classes(network) if "{" in target.load else {}
    return {"lines": target.load.format(**words).splitlines(), "tried": dict(target.tried)}


def write_card(
    target: Target,
    asked: Request,
    fitted: Fitted,
    run: Run | None,
    notes: tuple[str, ...],
    folder: Path,
    no_recipe: str,
) -> None:
    """Write the README of a checkpoint that lies in `folder`; `no_recipe` says why it has no recipe.yaml ("": it
    has)."""
    head, missing = _head(target, asked)
    how = loading(target, asked)
    origin = ", revision ".join(str(asked.source[key]) for key in ("name", "revision") if key in (asked.source or {}))
    text = [
        f"---\n{yaml_of(head)}---",
        f"# {target.title}",
        f"Made from {origin or 'a model that is not named'}: routed experts at {fitted.allocation.average_bits:.2f} "
        "bits on average. `manifest.json` has every setting, and a checksum of every file.",
        *missing,
        "## Load it",
        *(_lines(how) if how is not None else ("Nothing that was found loads it.",)),
        f"Engines: {target.engines}",
        *([f"**{target.warning}**"] if target.warning else []),
        "## What it costs",
        *_cost(target, asked, fitted, run),
        "## How it was made",
        "\n".join(f"- {line}" for line in _steps(asked, fitted, run)),
        f"`{RECIPE}` repeats it: `python -m mode_core run {RECIPE} --run runs/again --out exports/again`."
        if not no_recipe
        else f"There is no {RECIPE} that repeats it: {no_recipe}.",
        *notes,
    ]
    (folder / CARD).write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _head(target: Target, asked: Request) -> tuple[dict[str, Any], list[str]]:
    """What the hub reads of a card, and sentences on what could not be said."""
    source = asked.source or {}
    name = source.get("base_model") or source.get("name")
    known = isinstance(name, str) and HUB_ID.fullmatch(name) is not None
    head = {"base_model": name, "base_model_relation": "quantized"} if known else {}
    head |= {key: value for key, value in _original_card(asked).items() if key in INHERITED}
    head |= {"library_name": target.library} if target.library else {}
    head["tags"] = ["mixture-of-experts", "mixed-precision", "mode"]
    return head, [*([] if known else [NO_ID]), *([] if "license" in head else [NO_LICENCE])]


def _original_card(asked: Request) -> Mapping[str, Any]:
    """The head of the card beside the original's weights; empty where none can be read: then no licence is found."""
    folder = asked.checkpoint if asked.loaded is None else source_folder(asked.loaded)
    try:
        return front_matter(folder / CARD, ExportError)
    except ExportError:
        return {}


def _lines(how: dict[str, object]) -> tuple[str, ...]:
    tried = ", ".join(f"{name} {version}" for name, version in how["tried"].items())
    return (
        "In this folder, or with its path in place of `.`:",
        "```python\n" + "\n".join(how["lines"]) + "\n```",
        f"Tried with {tried}." if tried else "These lines were not run where this was written.",
    )


def _cost(target: Target, asked: Request, fitted: Fitted, run: Run | None) -> Iterator[str]:
    """Tables of what was measured of these very bits, one for each evaluation that the run keeps; and estimates."""
    same = digest_of_bits(fitted.allocation) == digest_of_bits(asked.allocation) and not target.reroutes
    tables = list(_tables(asked, run)) if run is not None and same else []
    yield from tables or ["These bits were not evaluated where this was written."]
    if fitted.price is not None:
        yield "The unit is coarser than that asked for; the manifest's `price_of_unit` estimates what that adds."


def _tables(asked: Request, run: Run) -> Iterator[str]:
    told, damaged = asked.allocation.settings.get("request"), {}
    evaluations = run.evaluations(damaged)
    originals = {}
    for record in evaluations.values():
        if (own := record.get("settings", {})).get("model") == "original":
            originals[own.get("measurement")] = record.get("summary", {}).get("accuracy")
    for name, record in evaluations.items():
        own = record.get("settings", {})
        choices = own.get("choices", own)
        same = (
            told is not None
            and choices.get("request") == told
            and choices.get("quantizer") == asked.quantizer.to_dict()
        )
        if not same or own.get("model", "allocation") != "allocation":
            continue
        try:
            scores = Scores.from_dict(record, f"The evaluation {name!r}")
        except ModeError:
            continue  # `show` names damaged ones; a card has the others
        yield _table(name, scores, own.get("original_accuracy", originals.get(own.get("measurement"))))


def _table(name: str, scores: Scores, original: float | None) -> str:
    """One evaluation: rows for all items, and those of each modality, with 95 % intervals."""
    exact = "" if scores.kl_exact else " (a lower bound)"
    rows = [f"| items | KL to the original in nats{exact} | same first token | exact answers |", "|---|---|---|---|"]
    for modality in (None, *MODALITIES):
        part = scores.of(modality)
        if part.answers:
            cells = [_interval(part, measure) for measure in ("kl", "agreement", "correct")]
            rows.append(f"| {len(part.answers)} {modality or 'in all'} | {' | '.join(cells)} |")
    before = "" if original is None else f" The original answers {100 * original:.1f} % exactly."
    return f"Measured here, evaluation {name!r}, 95 % intervals over items.{before}\n\n" + "\n".join(rows)


def _interval(scores: Scores, measure: str) -> str:
    if all(getattr(answer, measure) is None for answer in scores.answers):
        return "–"
    mean, low, high = scores.interval(measure)
    if measure == "kl":
        return f"{mean:.4g} ({low:.4g} to {high:.4g})"
    return f"{100 * mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _steps(asked: Request, fitted: Fitted, run: Run | None) -> Iterator[str]:
    info, statistics, allocation = {} if run is None else run.info, asked.statistics, fitted.allocation
    if statistics is not None and statistics.samples:
        digest = info.get("samples", {}).get("digest", "unknown")
        counted = f"; tokens: {tokens}" if (tokens := tokens_in_words(info)) else ""
        yield f"Calibration: {len(statistics.samples)} samples (digest {digest}{counted})."
    if statistics is not None:
        with suppress(SettingsError):  # no method stands behind uniform bits
            request = AllocationRequest.of(asked.allocation, statistics)
            said = f"`{' '.join(request.to_arguments())}`".replace("``", "all settings on their defaults")
            yield f"Importance and budget: {METHODS[request.method].title}, {said}."
    proven = "proven optimal" if allocation.proven_optimal else "not proven optimal"
    yield (
        f"Bits: {allocation.average_bits:.3f} on average of the widths {', '.join(map(str, allocation.widths))}, unit "
        f"{allocation.unit}, scope {allocation.scope}; {proven}."
    )
    beside = {"attention": asked.quantizer.attention_bits, "shared experts": asked.quantizer.shared_bits}
    rest = [f"{name} {width} bits" for name, width in beside.items() if width]
    grid = f"groups of {asked.group_size}, {'symmetric' if asked.symmetric else 'with zero points'}"
    yield f"Rounding: {asked.method}, {grid}; {', '.join(rest) or 'everything else as it was'}."
    yield "Software: " + ", ".join(f"{name} {version}" for name, version in versions().items() if version) + "."


def _classes(network: nn.Module) -> dict[str, str]:
    """transformers' classes for the model and its inputs, and the leave that code of its own takes."""
    from mode_core.models.outline import model_class_of

    model, pictures = model_class_of(network.config)
    trust = ", trust_remote_code=True" if network.is_custom_code() else ""
    return {"model": model.__name__, "reader": "AutoProcessor" if pictures else "AutoTokenizer", "trust": trust}
