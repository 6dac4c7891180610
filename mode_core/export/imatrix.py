"""An importance matrix in llama.cpp's form, made from what calibration saw: pictures too, without their background.

For every matrix the file holds Σ w·x² of its input channels and Σ w, for routed experts one row each, over the tokens
that the router gave it. Weighting `modality` counts text and key tokens alike and redundant ones not at all;
`plain` counts every token. llama-quantize takes it with `--imatrix`, and so does the target `gguf`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.gguf_names import FAMILIES, LANGUAGE, expert_tensor
from mode_core.export.request import Request
from mode_core.modalities import KINDS, REDUNDANT_TOKENS
from mode_core.quantization.settings import LEAST_TOKENS
from mode_core.statistics.imatrix import KINDS as KEPT
from mode_core.statistics.imatrix import InputEnergies

FILE = "imatrix.gguf"
WEIGHTINGS = {
    "modality": tuple(float(KINDS[kind].part != REDUNDANT_TOKENS) for kind in KEPT),
    "plain": (1.0,) * len(KEPT),
}
NAMED = 8  # experts that a note names one by one
SUMS, COUNTS = ".in_sum2", ".counts"

Matrix = dict[str, tuple[np.ndarray, np.ndarray]]  # tensor -> Σ w·x² [E, in], Σ w [E]


def write_imatrix(request: Request, folder: Path) -> tuple[str, ...]:
    """`imatrix.gguf`; returns which experts got their bank's mean, and what is not in the file.

    Raises:
        ExportError: the run was calibrated without an importance matrix; a weighting that is not offered.
    """
    weighting = request.options.get("weighting", "modality")
    if weighting not in WEIGHTINGS:
        raise ExportError(f"The weighting must be one of: {', '.join(WEIGHTINGS)}; got {weighting!r}.")
    energies = None
    if request.run_folder is not None and request.statistics is not None:
        energies = InputEnergies.load(request.run_folder, request.statistics.samples)
    if energies is None:
        raise ExportError("The run holds no input energies; calibrate with --imatrix to have an importance matrix.")
    layers = {name: shape.layer for name, shape in request.shapes().items()}
    matrix, notes = as_llama_cpp_names(energies, layers, WEIGHTINGS[weighting])
    tokens = sum(float(counts.sum()) for key, counts in energies.counts.items() if "/" not in key)
    entries = sum("/" not in key for key in energies.counts)
    each = max(1, round(tokens / max(entries, 1) / len(energies.samples)))
    save_imatrix(folder / FILE, matrix, f"{len(energies.samples)} samples of {energies.settings['model']}",
                 len(energies.samples), each)  # fmt: skip
    told = f"Weighting {weighting}; key vision tokens by {energies.settings['signal']} at a key ratio of " + (
        f"{energies.settings['key_ratio']:g}, settled when calibrating."
    )
    return (told, *notes)


def as_llama_cpp_names(
    energies: InputEnergies, layers: Mapping[str, int], weights: tuple[float, ...]
) -> tuple[Matrix, tuple[str, ...]]:
    """Σ w·x² and Σ w under llama.cpp's names; experts with fewer than `LEAST_TOKENS` get their bank's mean."""
    found, poor = {}, []
    table, left = _dense_names(energies, max(layers.values()) + 1), 0
    for key, (sums, counts) in energies.weighted(weights).items():
        bank, _, side = key.rpartition("/")
        if bank in layers:
            few = np.flatnonzero(counts < LEAST_TOKENS)
            if side == "up":
                poor += [f"layer {layers[bank]}: expert {expert}" for expert in few]
            whole = counts.sum()
            sums, counts = sums.copy(), counts.copy()
            sums[few] = sums.sum(axis=0) / whole if whole else 1.0
            counts[few] = 1.0
            for projection in ("gate", "up") if side == "up" else ("down",):
                found[expert_tensor(layers[bank], projection)] = sums, counts
        elif name := table(key):
            found[name] = sums, counts
        else:
            left += 1
    notes = []
    if poor:
        more = f" and {len(poor) - NAMED} more" if len(poor) > NAMED else ""
        notes.append(
            f"{len(poor)} experts with fewer than {LEAST_TOKENS} tokens got their bank's mean, which llama.cpp would "
            f"have left without any: {'; '.join(poor[:NAMED])}{more}."
        )
    if left:
        notes.append(f"{left} linear layers have no name of llama.cpp's that is known here, and are not in the file.")
    return found, tuple(notes)


def _dense_names(energies: InputEnergies, depth: int):
    """Module name → GGUF name, by gguf-py's table of the family; None for all where the family is not known."""
    import gguf

    kind, text = energies.settings["family"]
    if (family := FAMILIES.get(f"{kind}/{text}") or FAMILIES.get(kind)) is None:
        return lambda name: None
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.architecture], depth)

    def named(module: str) -> str | None:
        short = next((f"model.{module[len(p) :]}" for p in LANGUAGE if module.startswith(p)), module)
        return table.get_name(f"{short}.weight", try_suffixes=(".weight",))

    return named


def save_imatrix(path: Path, matrix: Matrix, about: str, chunks: int = 1, chunk_size: int = 1) -> None:
    """Write llama.cpp's GGUF form of an importance matrix."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "")
    writer.kv_data[0].pop("general.architecture", None)
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [about])
    writer.add_uint32("imatrix.chunk_count", chunks)
    writer.add_uint32("imatrix.chunk_size", chunk_size)
    for name, (sums, counts) in matrix.items():
        writer.add_tensor(name + SUMS, np.ascontiguousarray(sums, np.float32))
        writer.add_tensor(name + COUNTS, np.ascontiguousarray(counts[:, None], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_imatrix(path: str | Path) -> Matrix:
    """What a file of llama.cpp's GGUF form holds.

    Raises:
        ExportError: not such a file; sums without their counts.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError) as broken:
        raise ExportError(f"{path} is not a readable GGUF file ({broken}).") from None
    kind = reader.get_field("general.type")
    if kind is None or kind.contents() != "imatrix":
        raise ExportError(f"{path} is a GGUF file, but no importance matrix (general.type is not 'imatrix').")
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    found = {}
    for name, sums in tensors.items():
        if name.endswith(SUMS):
            if (counts := tensors.get(name.removesuffix(SUMS) + COUNTS)) is None:
                raise ExportError(f"{path}: {name} has no counts beside it; make the importance matrix anew.")
            found[name.removesuffix(SUMS)] = np.atleast_2d(sums), counts.reshape(-1)
    return found


def importance_rows(matrix: Matrix) -> dict[str, np.ndarray]:
    """Mean of w·x² of every input channel: tensor → `[E, in]`; ones where nothing was counted, as llama.cpp does."""
    return {
        name: np.where(counts[:, None] > 0, sums / np.maximum(counts, 1e-30)[:, None], 1.0).astype(np.float32)
        for name, (sums, counts) in matrix.items()
    }
