"""Models: loading one, finding its expert banks, encoding samples for it.

Each name is imported when it is first asked for: who needs the errors alone does not wait for torch.
"""

from typing import TYPE_CHECKING

from mode_core.on_first_use import on_first_use

if TYPE_CHECKING:
    from mode_core.models.bank_search import find_banks
    from mode_core.models.banks import PROJECTIONS, ExpertBank, Reached
    from mode_core.models.encoding import AUDIO, PADDING, TEXT, VISION, Encoded
    from mode_core.models.errors import ModelError, OwnCodeError
    from mode_core.models.loading import LoadedModel, load_model
    from mode_core.models.readable_samples import encode_checked, usable
    from mode_core.models.vision_ops import ensure_torchvision

__getattr__ = on_first_use(__name__, __file__)
