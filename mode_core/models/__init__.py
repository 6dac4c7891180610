"""Models: loading one, finding its expert banks, encoding samples for it.

Each name is imported when it is first asked for: who needs the errors alone does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mode_core.models.banks import PROJECTIONS, ExpertBank, Reached
    from mode_core.models.encoding import PADDING, TEXT, VISION, Encoded
    from mode_core.models.errors import ModelError, OwnCodeError
    from mode_core.models.finding import find_banks
    from mode_core.models.loading import LoadedModel, load_model
    from mode_core.models.vetting import encode_checked, usable
    from mode_core.models.vision_ops import ensure_torchvision

_HOMES = {
    "PROJECTIONS": "banks",
    "ExpertBank": "banks",
    "Reached": "banks",
    "PADDING": "encoding",
    "TEXT": "encoding",
    "VISION": "encoding",
    "Encoded": "encoding",
    "ModelError": "errors",
    "OwnCodeError": "errors",
    "find_banks": "finding",
    "LoadedModel": "loading",
    "load_model": "loading",
    "encode_checked": "vetting",
    "ensure_torchvision": "vision_ops",
    "usable": "vetting",
}
__all__ = [
    "PADDING",
    "PROJECTIONS",
    "TEXT",
    "VISION",
    "Encoded",
    "ExpertBank",
    "LoadedModel",
    "ModelError",
    "OwnCodeError",
    "Reached",
    "encode_checked",
    "ensure_torchvision",
    "find_banks",
    "load_model",
    "usable",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
