"""Read in the frequency and sensitivity JSON of the paper's released code, as a run.

Frequency: `{layer: {"total": [E], "text": [E], "image": [E], "dominant_image": [E], "redundant_image": [E]}}`, top-k
selections by token; layers are module names such as `model.language_model.layers.0.mlp`. Sensitivity:
`{"metadata": …, "sensitivities": {layer: {expert: {bits: {"text": δ, "vision": δ}}}}}`, δ per output dimension, vision
being the key (dominant) tokens.

What such files do not hold stays unknown here: they know **one** key ratio (the one they were made with), no routing
weights, no weight norms, no redundant tokens' damage and no separate samples. So other key ratios are refused, methods
that need the rest refuse or say that costs are no numbers, and there are no intervals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from typing_extensions import TypedDict

from mode_core.errors import ReleasedJsonError
from mode_core.json_files import OPEN, checked, read_json, shortened
from mode_core.runs.run import Run
from mode_core.statistics import BINS, BankShape, BankStatistics, ExpertStatistics

SIGNAL = "text_attention"
KEYS = {"text": ("text", "T"), "vision": ("vision", "key_vision", "V")}  # what the released solver accepts
FREQUENCIES = ("text", "image", "dominant_image", "redundant_image")
KNOWN_SHAPES = {  # (model_type in the files, experts) -> hidden, intermediate, top-k, as those models' config.json say
    ("qwen3_vl_moe", 128): (2048, 768, 8),  # Qwen3-VL-30B-A3B
    ("internvl", 128): (2048, 768, 8),  # InternVL3.5-30B-A3B
    ("kimi_vl", 64): (2048, 1408, 6),  # Kimi-VL-A3B
}


class _Metadata(TypedDict, total=False):
    """What the sensitivity file says of how it was made."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    dominant_ratio: float
    group_size: Annotated[int, Interval(ge=-1, le=1 << 24)]
    model_type: str
    model_path: str
    metric: str


@dataclass(frozen=True)
class _Layer:
    """One layer of the frequency file: counts `[E]` by kind."""

    key: str
    number: int
    counts: dict[str, np.ndarray]


def import_released(
    frequency_json: str | Path,
    sensitivity_json: str | Path,
    key_ratio: float | None = None,
    sizes: tuple[int, int, int] | None = None,
) -> ExpertStatistics:
    """Both files as statistics: with method `mode` at their key ratio, costs are those of the released solver.

    Args:
        key_ratio: share of vision tokens that the files call dominant; default: `dominant_ratio` of the sensitivity
            file's metadata.
        sizes: hidden size, experts' intermediate size, experts per token; default: those of the paper's models.

    Raises:
        ReleasedJsonError: a file, layer, expert or width that is missing or not a number, named; sizes that the
            files do not tell.
    """
    layers = _frequency_layers(Path(frequency_json))
    metadata, table = _sensitivities(Path(sensitivity_json))
    ratio = key_ratio if key_ratio is not None else metadata.get("dominant_ratio")
    detailed = all("dominant_image" in layer.counts for layer in layers)
    if not detailed:
        ratio = 1.0  # recorded without --detail: all vision tokens are alike
    if ratio is None or not 0 < ratio <= 1:
        raise ReleasedJsonError(
            f"{sensitivity_json} does not say which share of vision tokens is dominant (metadata.dominant_ratio: "
            f"{ratio!r}); give the key ratio."
        )
    banks, bits = {}, _bits(Path(sensitivity_json), table)
    for layer in layers:
        errors = _layer_table(Path(sensitivity_json), table, layer, bits)
        shape = _shape(layer, metadata, sizes)
        bank = _bank(layer, shape, bits, errors, round(BINS * float(ratio)))
        banks[bank.name] = bank
    settings = {
        "model": str(metadata.get("model_path", "not stated")),
        "group_size": metadata.get("group_size", 128),
        "symmetric": True,
        "sensitivity": True,
        "sensitivity_metric": str(metadata.get("metric", "not stated")),
        "key_ratios": [float(ratio)],
        "origin": "frequency and sensitivity JSON of the paper's released code",
    }
    return ExpertStatistics(banks, bits, (SIGNAL,), settings, ())


def import_run(
    frequency_json: str | Path, sensitivity_json: str | Path, out: str | Path, **options: Any
) -> tuple[Run, ExpertStatistics]:
    """`import_released` kept as a run in the new folder `out`."""
    statistics = import_released(frequency_json, sensitivity_json, **options)
    name = Path(str(statistics.settings["model"])).name
    run = Run.create(out, model={"name": name}, settings=dict(statistics.settings))
    with run.measuring():
        run.write_statistics(statistics, state="done")
    return run, statistics


def _read(path: Path) -> dict:
    record = read_json(path, ReleasedJsonError)
    if not isinstance(record, dict) or not record:
        raise ReleasedJsonError(f"{path} is JSON, but holds no layers by name.")
    return record


def _number(key: str) -> int | None:
    """Layer number of an int-like key or a module name."""
    found = re.fullmatch(r"([0-9]{1,6})", key) or re.search(r"layers\.([0-9]{1,6})(?![0-9])", key)
    return int(found.group(1)) if found else None


def _frequency_layers(path: Path) -> list[_Layer]:
    layers = []
    for key, entry in _read(path).items():
        number = _number(key)
        if number is None or not isinstance(entry, dict):
            raise ReleasedJsonError(f"{path}: {key!r} is no layer with counts; is this the frequency file?")
        missing = [kind for kind in FREQUENCIES[:2] if kind not in entry]
        if missing:
            raise ReleasedJsonError(f"{path}, layer {key}: no {missing[0]!r} (keys: {', '.join(entry)}).")
        counts = {kind: _counts(path, key, kind, entry[kind]) for kind in FREQUENCIES if kind in entry}
        if len({len(count) for count in counts.values()}) > 1:
            lengths = ", ".join(f"{kind} {len(count)}" for kind, count in counts.items())
            raise ReleasedJsonError(f"{path}, layer {key}: the lists have different lengths ({lengths}).")
        ranked = counts.get("dominant_image", 0) + counts.get("redundant_image", 0)
        if "dominant_image" in counts and (ranked > counts["image"]).any():
            raise ReleasedJsonError(f"{path}, layer {key}: more dominant and redundant image tokens than image tokens.")
        layers.append(_Layer(key, number, counts))
    if len({layer.number for layer in layers}) < len(layers):
        raise ReleasedJsonError(f"{path}: a layer's counts are there twice, under two names.")
    return sorted(layers, key=lambda layer: layer.number)


def _counts(path: Path, layer: str, kind: str, values: object) -> np.ndarray:
    try:
        counts = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        counts = np.array(np.nan)
    if counts.ndim != 1 or not counts.size or not np.isfinite(counts).all() or (counts < 0).any():
        raise ReleasedJsonError(f"{path}, layer {layer}: {kind!r} must be a list of counts, one for each expert.")
    return counts


def _sensitivities(path: Path) -> tuple[Mapping, Mapping]:
    record = _read(path)
    metadata = record.get("metadata", {})
    table = next((record[key] for key in ("sensitivities", "layers") if isinstance(record.get(key), dict)), record)
    return checked(metadata, _Metadata, f"{path}, metadata", ReleasedJsonError), table


def _bits(path: Path, table: Mapping) -> tuple[int, ...]:
    """Widths of the first expert; every other must have them too."""
    for layer in table.values():
        for expert in layer.values() if isinstance(layer, dict) else ():
            if isinstance(expert, dict) and expert and all(re.fullmatch("[0-9]|1[0-6]", width) for width in expert):
                return tuple(sorted(int(width) for width in expert))
    raise ReleasedJsonError(f"{path} holds no sensitivities by layer, expert and width; is this the sensitivity file?")


def _layer_table(path: Path, table: Mapping, layer: _Layer, bits: tuple[int, ...]) -> dict[str, np.ndarray]:
    """δ of one layer: text and vision, `[E, B]` each."""
    found = next((entry for key, entry in table.items() if key == layer.key), None)
    found = found or next((entry for key, entry in table.items() if _number(str(key)) == layer.number), None)
    if not isinstance(found, dict):
        raise ReleasedJsonError(f"{path} has no layer {layer.key}, which the frequency file has.")
    experts = len(layer.counts["text"])
    tables = {kind: np.empty([experts, len(bits)]) for kind in KEYS}
    for expert in range(experts):
        for column, width in enumerate(bits):
            own = found.get(str(expert))
            entry = own.get(str(width)) if isinstance(own, dict) else None
            entry = entry if isinstance(entry, dict) else {}
            for kind, names in KEYS.items():
                value = next((entry[name] for name in names if name in entry), None)
                if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
                    raise ReleasedJsonError(
                        f"{path}, layer {layer.key}, expert {expert}, {width} bits: no sensitivity to {kind} "
                        f"(found {shortened(value)}). Collect it again without a limit on layers or experts."
                    )
                tables[kind][expert, column] = value
    return tables


def _shape(layer: _Layer, metadata: Mapping, sizes: tuple[int, int, int] | None) -> BankShape:
    experts = len(layer.counts["text"])
    chosen = sizes or KNOWN_SHAPES.get((str(metadata.get("model_type")), experts))
    if chosen is None:
        raise ReleasedJsonError(
            f"The files do not tell the sizes of the experts of {metadata.get('model_type', 'an unnamed model')!r} "
            f"with {experts} experts; give hidden size, intermediate size and experts per token."
        )
    hidden, intermediate, top_k = chosen
    if not all(0 < size <= 1 << 24 for size in chosen) or top_k > experts:
        raise ReleasedJsonError(
            f"Hidden size, intermediate size and experts per token must be at least 1, and a token can "
            f"choose at most {experts} experts; got {', '.join(map(str, chosen))}."
        )
    return BankShape(layer.number, experts, hidden, intermediate, top_k)


def _bank(
    layer: _Layer, shape: BankShape, bits: tuple[int, ...], errors: dict[str, np.ndarray], key_bins: int
) -> BankStatistics:
    """One layer's statistics: all in one fold, key tokens in the last key bin, the rest behind it."""
    stem = layer.key if not layer.key.isdigit() else f"model.language_model.layers.{layer.number}.mlp"
    bank = BankStatistics.empty(f"{stem}.experts", shape, bits, (SIGNAL,))
    counts, key = layer.counts, max(key_bins, 1) - 1
    dominant = counts.get("dominant_image", counts["image"])
    arrays = bank.arrays
    vision = np.zeros([shape.experts, BINS])
    vision[:, key] = dominant
    if "dominant_image" in counts and key + 1 < BINS:
        redundant = counts.get("redundant_image", np.zeros(shape.experts))
        vision[:, key + 1] += counts["image"] - dominant - redundant
        vision[:, BINS - 1] += redundant
    arrays["text_selections"][0] = counts["text"]
    arrays[f"vision_selections/{SIGNAL}"][0] = vision
    arrays["text_tokens"][0] = counts["text"].sum() / shape.top_k
    arrays[f"vision_tokens/{SIGNAL}"][0] = vision.sum(axis=0) / shape.top_k
    _fill(arrays, "text", "", counts["text"], errors["text"], shape, ())
    _fill(arrays, "vision", f"/{SIGNAL}", dominant, errors["vision"], shape, (key,))
    return bank


def _fill(arrays: dict, kind: str, end: str, counts: np.ndarray, delta: np.ndarray, shape: BankShape, place: tuple):
    """Damage as sums over `counts` tokens, so that their mean is δ again; what is unknown is no number."""
    support = np.maximum(counts, 1.0)  # δ may come from other samples than the counts
    arrays[f"{kind}_support{end}"][(0, slice(None), *place)] = support
    for name in ("error", "gated_error"):  # without output energy, costs by gated error are refused
        arrays[f"{kind}_{name}{end}"][(0, slice(None), slice(None), *place)] = delta * support[:, None] * shape.hidden
    arrays[f"{kind}_weight{end}"][(0, slice(None), *place)] = np.nan
