"""Lets torchvision be imported beside a torch build that its compiled operators were not made for.

Most processors of multimodal models import torchvision, for its image transforms alone. torchvision also registers
fake (shape-only) versions of two detection operators, `nms` and `qnms`, whose schemas come from its compiled library.
Where torch is a CPU build and torchvision's wheel is not (or the other way round) that library does not load, and
`import torchvision` stops at "operator torchvision::nms does not exist". Declaring the two schemas first is enough:
nothing here calls them, and a call would still say that there is no implementation.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_LIBRARY: list[torch.library.Library] = []  # a declaration lasts as long as the library object that made it


def ensure_torchvision() -> None:
    """Declare the two operators where torchvision's own library does not load; does nothing elsewhere.

    Call it before anything imports torchvision (transformers' image processors do). Calling it again is free.
    """
    if "torchvision" in sys.modules or _LIBRARY or _compiled_operators_load():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in SCHEMAS.items():
        library.define(name.split("::")[1] + schema)
    _LIBRARY.append(library)


def _compiled_operators_load() -> bool:
    """Try torchvision's compiled library itself, without importing the package; True where there is none to try."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return True
    folder = Path(spec.submodule_search_locations[0])
    libraries = sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd")])
    for path in libraries:
        try:
            torch.ops.load_library(str(path))
        except (OSError, RuntimeError):
            return False
    return bool(libraries)
