"""What the tensors of a checkpoint's files are called in the model, and the way back.

Files keep the names of the release, which transformers renames as it loads (`language_model.model.layers…` →
`model.language_model.layers…`), and joins where a family's experts lie apart. Its own table is asked, so that a name is
never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def model_names(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Names in the files → names in the model; of several tensors that a file holds as one, the first.

    A tensor that the model's class does not use has a name that is not in its `state_dict`.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    table, known = get_model_conversion_mapping(model), model.state_dict()
    renamings = [entry for entry in table if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in table if isinstance(entry, WeightConverter)]
    found = {}
    for name in names:
        renamed, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if renamed not in known and name in known:
            renamed = name
        found[name] = renamed
    return found


def as_in_files(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a loaded model under the names and in the form that its files have, as transformers saves it.

    Memory: a copy of whatever lies otherwise in the files.
    """
    from transformers.core_model_loading import revert_weight_conversion

    return revert_weight_conversion(model, model.state_dict())
