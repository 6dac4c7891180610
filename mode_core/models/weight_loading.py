"""The weights of a checkpoint on their way into a model, and the proof that all of them arrived.

transformers puts them together (renames, merges, transposes) and is asked what it found missing, of another shape, or
of no use. It starts what is missing at random: nothing may be measured on that, so it is refused.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mode_core.models.bank_search import find_banks
from mode_core.models.errors import ModelError
from mode_core.models.outline import attempt, built, stored_dtype
from mode_core.models.storage import LISTED_NAMES, FusedStorage

if TYPE_CHECKING:
    from mode_core.models.banks import ExpertBank
    from mode_core.models.checkpoint_files import CheckpointFiles

REMEDY = "A conversion or download may have stopped; get the checkpoint anew, or convert it again."
UNSOUND = "not finite (NaN or infinity). Get these weights anew."
SHOWN = 5  # tensors that a refusal names
EXPERT = re.compile(r"(?P<bank>.+\.experts)\.(?P<expert>\d+)\.(?P<part>.+)")
SET_ASIDE = re.compile(r"(^|\.)(mtp|nextn|talker|code2wav|token2wav)(\.|_)")  # further networks beside the model's own
OF_THE_MODEL = re.compile(
    r"expert|router|gate|attn|attention|norm|head|embed|proj|mlp|layers\.\d|\.w\d\.", re.IGNORECASE
)
NEXT_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
COMPUTED = re.compile(r"rotary_emb\.inv_freq$|position_ids$")  # made anew by every model


def load_weights(
    files: CheckpointFiles, config: Any, dtype: torch.dtype | None, trust_remote_code: bool, **placement: Any
) -> nn.Module:
    """The model of a configuration with the weights of these files, in `dtype` (None: as they are stored).

    Memory: the model, and the tensors that are being put together. `placement` is transformers' own (`device_map` …).

    Raises:
        ModelError: tensors that are missing, of another shape, not understood, or not finite; their names and counts.
    """
    held = sum(prod(files.shape(key)) for key in files.names)
    if held < sum(parameter.numel() for parameter in built(str(files.folder), config, trust_remote_code).parameters()):
        check_files(
            files, config, trust_remote_code
        )  # before transformers makes up what is missing, which takes memory
    arrived: list[str] = []
    model = _filled(files, config, dtype, trust_remote_code, lambda key: Arriving(key, files, arrived), **placement)
    if arrived:
        raise ModelError(f"{files.folder}: {_counted(arrived)}: {UNSOUND}")
    _generation(model, files)
    return model


def check_files(files: CheckpointFiles, config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The outline of a configuration, after the proof that these files hold all of its weights, which are not read.

    Raises:
        ModelError: as `load_weights`, but for numbers that are not finite.
    """
    nowhere = {"device_map": {"": "meta"}}
    with loading_bars(shown=False):
        return _filled(files, config, None, trust_remote_code, lambda key: Shadow(key, files), **nowhere)


def _filled(
    files: CheckpointFiles,
    config: Any,
    dtype: torch.dtype | None,
    trust_remote_code: bool,
    reader: Callable[[str], Arriving | Shadow],
    **placement: Any,
) -> nn.Module:
    """A model with what `reader` makes of every tensor's name, by transformers' own loading."""
    name = str(files.folder)
    outlined = built(name, config, trust_remote_code)
    check_experts(files.names, name)
    merged = _merged(files, outlined, reader)
    apart = {key for one in merged.values() for key in one.names()}
    state = {key: reader(key) for key in files.names if key not in apart} | merged
    options = {"config": config, "state_dict": state, "dtype": dtype or stored_dtype(config), **placement}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True, "trust_remote_code": trust_remote_code}
    with _quietly() as said:
        try:
            model, report = attempt(name, "model", type(outlined).from_pretrained, None, **options)
        except ModelError as failure:
            unfit = re.findall(r"(\S+)\s*\|[^|\n]*CONVERSION", "\n".join(said))
            if not unfit:
                raise
            raise ModelError(f"{name}: {_counted(unfit)}: cannot be put together. {REMEDY}") from failure
    check_report(report, config, name)
    return model


@contextmanager
def loading_bars(shown: bool) -> Iterator[None]:
    """Keep transformers' own bars ("Loading weights") off the screen where no progress is wanted."""
    from transformers.utils import logging

    active = logging.is_progress_bar_enabled()
    try:
        if not shown:
            logging.disable_progress_bar()
        yield
    finally:
        if active:
            logging.enable_progress_bar()


@contextmanager
def _quietly() -> Iterator[list[str]]:
    """Keeps transformers' own report of a load, which is told here in its place."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        ours = "LOAD REPORT" in record.getMessage()
        if ours:
            said.append(record.getMessage())
        return not ours

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield said
    finally:
        logger.removeFilter(keep)


def _generation(model: nn.Module, files: CheckpointFiles) -> None:
    """The folder's own settings of generation; a load without its name leaves them out."""
    from transformers import GenerationConfig

    model.config.name_or_path = model.name_or_path = str(files.folder)
    if model.can_generate() and (files.folder / "generation_config.json").is_file():
        kept = {"local_files_only": True}
        model.generation_config = attempt(
            str(files.folder), "generation_config.json", GenerationConfig.from_pretrained, files.folder, **kept
        )


def check_experts(names: Iterable[str], folder: str) -> None:
    """Refuse files that hold some of the experts of a bank, or some of an expert's tensors.

    Raises:
        ModelError: names the first tensors that are missing.
    """
    parts: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        if match := EXPERT.fullmatch(name):
            parts[match["bank"]][match["part"]].add(int(match["expert"]))
    lacking = []
    for bank, held in parts.items():
        count = 1 + max(max(experts) for experts in held.values())
        common = {part for part, experts in held.items() if len(experts) > count // 2}  # of every expert, not of a few
        lacking += [f"{bank}.{e}.{part}" for part in sorted(common) for e in range(count) if e not in held[part]]
    if lacking:
        raise ModelError(f"{folder}: {_counted(lacking)}: missing in its weight files. {REMEDY}")


def check_report(report: dict[str, Any], config: Any, folder: str) -> None:
    """Refuse what transformers could not put into the model, and what it started at random.

    `report` is that of `output_loading_info`: tied tensors, and those that the architecture declares as not needed,
    are out of it already. Tensors of further networks beside the model (multi-token prediction) are no fault.

    Raises:
        ModelError: up to five tensors by name, how many, and what to do.
    """
    missing = [key for key in report["missing_keys"] if not COMPUTED.search(key)]
    mismatched = [f"{key} {list(held)} (the model has {list(own)})" for key, held, own in report["mismatched_keys"]]
    unused = [key for key in report["unexpected_keys"] if _matters(key, config)]
    faults = [
        f"{_counted(keys)}: {words}"
        for keys, words in (
            (missing, "missing in its weight files"),
            (mismatched, "of another shape"),
            (unused, "in its weight files, but in no place of the model (named otherwise, or of another model)"),
        )
        if keys
    ]
    if faults:
        raise ModelError(f"{folder} is not what its config.json says. {'; '.join(faults)}. {REMEDY}")


def _matters(key: str, config: Any) -> bool:
    """Is a tensor that found no place in the model of its experts, routers, attention, norms, head or embeddings?"""
    if SET_ASIDE.search(key) or COMPUTED.search(key) or not OF_THE_MODEL.search(key):
        return False
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers = getattr(text, "num_hidden_layers", None)
    further = sum(int(getattr(text, name, 0) or 0) for name in NEXT_LAYERS)
    layer = re.search(r"\blayers\.(\d+)\.", key)
    return not (layer and isinstance(layers, int) and layers <= int(layer[1]) < layers + further)


def _counted(keys: Iterable[str]) -> str:
    held = sorted(keys)
    more = f" and {len(held) - SHOWN} more" if len(held) > SHOWN else ""
    return f"{len(held)} tensor{'s' * (len(held) != 1)} ({', '.join(held[:SHOWN])}{more})"


class Arriving:
    """One tensor that transformers reads when it needs it (`tensor[...]`); numbers that are not finite are noted."""

    def __init__(self, name: str, files: CheckpointFiles, found: list[str]):
        self.name, self._files, self._found = name, files, found

    def __getitem__(self, _: object) -> Tensor:
        tensor = self._files.read(self.name)
        if self.name.endswith(".weight") or ".experts." in self.name:
            self._found += unsound(self.name, tensor)
        return tensor


class Shadow:
    """One tensor without its numbers: type and sizes alone."""

    def __init__(self, name: str, files: CheckpointFiles):
        self.name, self._files = name, files

    def __getitem__(self, _: object) -> Tensor:
        return torch.empty(self._files.shape(self.name), dtype=self._files.dtype(self.name), device="meta")


class Merged:
    """The matrices of a bank's side as the model fuses them, from files with a tensor for each."""

    def __init__(self, bank: ExpertBank, parts: dict[str, str], reader: Callable[[str], Arriving | Shadow]):
        self._bank, self._parts, self._reader = bank, parts, reader

    def names(self) -> list[str]:
        """The files' tensors that it is made from."""
        return [name.format(expert) for name in self._parts.values() for expert in range(self._bank.experts)]

    def __getitem__(self, _: object) -> Tensor:
        bank = self._bank
        side = bank.fused("down" if "down" in self._parts else "up")
        made: Tensor | None = None
        for projection, name in self._parts.items():
            for expert in range(bank.experts):
                matrix = self._reader(name.format(expert))[...]
                made = torch.empty(side.shape, dtype=matrix.dtype, device=matrix.device) if made is None else made
                made[expert, bank.rows(projection)] = matrix
        return made.mT.contiguous() if bank.storage.transposed else made


def _merged(files: CheckpointFiles, model: nn.Module, reader: Callable[[str], Arriving | Shadow]) -> dict[str, Merged]:
    """Fused tensors of banks that the files hold expert by expert, in families for which transformers does not."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    if any("*" in pattern for one in get_model_conversion_mapping(model) for pattern in one.source_patterns):
        return {}
    names, made = set(files.names), {}
    for bank in find_banks(model).values():
        for gate, up, down in LISTED_NAMES:
            entrance = {"gate": gate, "up": up} if bank.has_gate else {"up": up}
            for side, parts in (("up", entrance), ("down", {"down": down})):
                stored = {key: f"{bank.name}.{{}}.{part}.weight" for key, part in parts.items()}
                merged = Merged(bank, stored, reader)
                if isinstance(bank.storage, FusedStorage) and names.issuperset(merged.names()):
                    made[f"{bank.name}.{bank.storage.parameter_name(side)}"] = merged
    return made


def unsound(name: str, tensor: Tensor) -> list[str]:
    """Names of what is NaN or infinite in a tensor: it, or its experts where they are stacked in it."""
    if not tensor.is_floating_point() or all(bool(end.isfinite()) for end in torch.aminmax(tensor)):
        return []  # NaN is least and greatest of all
    if tensor.dim() < 3 or ".experts." not in name:
        return [name]
    return [f"{name}, expert {e}" for e in range(len(tensor)) if not bool(tensor[e].isfinite().all())]
