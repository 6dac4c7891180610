"""A whole GGUF file: experts in the types that were chosen for them, everything else beside, vocabulary and settings.

Where a type holds our codes they are written as they are, so the file answers as our quantized model does; K and IQ
types are rounded from the original weights by ggml itself, with an importance matrix where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.ggml_blocks import blocks, plain
from mode_core.export.ggml_library import ggml_quantize
from mode_core.export.ggml_types import FILE_TYPES, PLAIN, GgmlType, container, type_named
from mode_core.export.gguf_names import CONVERTER, add_settings, expert_tensor, family_of, tensor_names, text_of
from mode_core.export.gguf_stream import GgufStream
from mode_core.export.gguf_vocabulary import add_vocabulary
from mode_core.export.request import Request
from mode_core.export.weights import Weights, open_weights
from mode_core.quantization.widths import UNTOUCHED, group_length

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.export.weights import ExpertMatrix

FILE = "model.gguf"
CHOSEN = "ggml_types"  # the allocation's setting that names every expert tensor's type
LINES = """import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = "model.gguf"
server = xllamacpp.Server(params)
answer = server.handle_completions(dict(prompt="…", n_predict=32))"""
PIECE = 1 << 22  # weights turned into blocks at once
QUANTIZATION_VERSION = 2  # of ggml's block formats


def write_gguf_file(request: Request, folder: Path) -> tuple[str, ...]:
    """`model.gguf`, streamed: llama.cpp opens it as it is.

    Memory: what `Weights` needs, and `PIECE` weights as floating-point numbers.

    Raises:
        ExportError: a family, tokenizer or tensor that is not written here; types that do not fit; a package missing.
    """
    from gguf import GGUFWriter

    chosen = {name: type_named(kind) for name, kind in request.allocation.settings[CHOSEN].items()}
    weights = open_weights(_originals_where_rounded(request, chosen))
    family = family_of(weights.config)
    writer = GGUFWriter(None, family_architecture(family.architecture))
    writer.add_type("model")
    writer.add_quantization_version(QUANTIZATION_VERSION)
    writer.add_name(str((request.source or {}).get("model") or weights.folder.name))
    add_settings(writer, weights, family)
    names, left = tensor_names(weights, family)
    notes = add_vocabulary(writer, weights.folder, int(text_of(weights.config)["vocab_size"]))
    stream, rest = GgufStream(folder / FILE, writer), _rest_types(weights, names, request.options.get("rest", ""))
    for stored, name in names.items():
        stream.plan(name, weights.files.shape(stored), rest[stored])
    for shape in weights.shapes.values():
        for projection, sides in _sides(shape).items():
            name = expert_tensor(shape.layer, projection)
            stream.plan(name, (shape.experts, *sides), chosen[name])
    rows = importance_of(request)
    with weights.ready():
        stream.begin()
        for stored, tensor in weights.others():
            if stored in names:
                _put_rest(stream, weights, stored, names[stored], tensor, rest[stored], rows)
        for matrix in weights.experts():
            _put_expert(stream, weights, matrix, chosen, rows)
    stream.close()
    return (*notes, *_notes(left, weights, rest, request.options.get("rest", "")))


def family_architecture(name: str) -> str:
    """What llama.cpp calls an architecture."""
    import gguf

    return gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[name]]


def _originals_where_rounded(request: Request, chosen: Mapping[str, GgmlType]) -> Request:
    """The request with width 16 wherever ggml rounds, so that the original weights arrive there."""
    bits = {}
    for bank, given in request.allocation.bits.items():
        widths, layer = np.array(given), request.layer(bank)
        for side, projection in enumerate(("up", "down")):
            if chosen[expert_tensor(layer, projection)].levels is None:
                widths[:, side] = UNTOUCHED
        bits[bank] = widths
    return replace(request, allocation=replace(request.allocation, bits=bits))


def _sides(shape) -> dict[str, tuple[int, int]]:
    entrance = (shape.intermediate, shape.hidden)
    gate = {"gate": entrance} if shape.has_gate else {}
    return gate | {"up": entrance, "down": entrance[::-1]}


def _rest_types(weights: Weights, names: Mapping[str, str], asked: str) -> dict[str, GgmlType]:
    """Files' names → types of what is no routed expert: vectors and routers in F32; a layer with a width of its own in
    the type that holds its codes; other matrices as `asked`, or ("") in the files' own type."""
    found = {}
    for stored, name in names.items():
        shape, own = weights.files.shape(stored), type_named(FILE_TYPES[str(weights.files.dtype(stored))])
        if len(shape) < 2 or "ffn_gate_inp" in name:
            found[stored] = type_named("F32")
        elif stored in weights.linears:
            found[stored] = _held(weights, stored)
        else:
            kind = type_named(asked) if asked else own
            found[stored] = own if shape[-1] % kind.block else kind
    return found


def _held(weights: Weights, stored: str) -> GgmlType:
    request, columns = weights.request, weights.files.shape(stored)[-1]
    width, fractions = weights.linears[stored][1], request.quantizer.kind.real_zeros
    grid = columns, group_length(columns, request.group_size)
    kind = container(width, request.symmetric and not fractions, *grid, fractions)
    if kind is None:
        raise ExportError(f"No ggml type holds the {width}-bit codes of {stored}; choose another width or group size.")
    return kind


def _put_rest(
    stream: GgufStream, weights: Weights, stored: str, name: str, tensor: Tensor, kind: GgmlType, rows: Mapping
) -> None:
    if stored in weights.linears:
        stream.put(name, blocks(weights.packed(stored, weights.files.read(stored)), kind))
        return
    flat = tensor.reshape(-1, tensor.shape[-1])
    step, place = max(1, PIECE // flat.shape[1]), 0
    for first in range(0, len(flat), step):
        made = _encoded(flat[first : first + step], kind, rows.get(name))
        stream.put(name, made, place)
        place += made.nbytes


def _put_expert(
    stream: GgufStream, weights: Weights, matrix: ExpertMatrix, chosen: Mapping[str, GgmlType], rows: Mapping
) -> None:
    name = expert_tensor(weights.shapes[matrix.bank].layer, matrix.projection)
    kind, own = chosen[name], rows.get(name)
    if matrix.packed is not None:
        made = blocks(matrix.packed, kind)
    else:
        made = _encoded(matrix.original, kind, None if own is None else own[matrix.expert])
    stream.put(name, made, matrix.expert * made.nbytes)


def _encoded(weights: Tensor, kind: GgmlType, importance: np.ndarray | None) -> np.ndarray:
    """Rows `[n, columns]` as bytes: plain, or rounded by ggml (Q8_0 by gguf-py, which gives the same)."""
    if kind.name in PLAIN:
        return plain(weights, kind)
    values = weights.float().numpy()
    if kind.name == "Q8_0":
        from gguf import GGMLQuantizationType, quants

        return quants.quantize(values, GGMLQuantizationType.Q8_0)
    row = None if importance is None else importance.reshape(-1)
    return ggml_quantize(values, kind, row)


def importance_of(request: Request) -> dict[str, np.ndarray]:
    """GGUF name → mean of w·x² `[E, in]` (`[1, in]` outside the experts), from the imatrix that was given."""
    if not (path := request.options.get("imatrix")):
        return {}
    from mode_core.export.imatrix import importance_rows, read_imatrix

    return importance_rows(read_imatrix(path))


def _notes(left: tuple[str, ...], weights: Weights, rest: Mapping[str, GgmlType], asked: str) -> tuple[str, ...]:
    notes = []
    if asked and (kept := [name for name, kind in rest.items() if kind.name != asked.upper() and kind.name != "F32"
                           and name not in weights.linears]):  # fmt: skip
        notes.append(f"Rows of {', '.join(kept[:3])} are no whole blocks of {asked}, so they keep the files' type.")
    if left:
        notes.append(f"The vision part is not in this file ({len(left)} tensors); llama.cpp makes it: {CONVERTER}")
        eyes = weights.config.get("vision_config") or {}
        if merge := eyes.get("spatial_merge_size"):  # of Qwen's; whose processor stretches a picture instead
            notes.append(
                f"llama.cpp pads pictures with black to whole multiples of {merge * eyes['patch_size']} pixels a side, "
                "where the model was trained on stretched ones: resize small pictures first."
            )
    return tuple(notes)
