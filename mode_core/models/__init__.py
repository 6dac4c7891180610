"""Models: loading one, finding its expert banks, encoding samples for it."""

from mode_core.models.banks import PROJECTIONS, ExpertBank, Reached
from mode_core.models.encoding import PADDING, TEXT, VISION, Encoded
from mode_core.models.errors import ModelError, OwnCodeError
from mode_core.models.finding import find_banks
from mode_core.models.loading import LoadedModel, load_model
from mode_core.models.vision_ops import ensure_torchvision

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
    "ensure_torchvision",
    "find_banks",
    "load_model",
]
