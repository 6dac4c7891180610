"""Lets torchvision be imported beside a CPU build of torch."""

from __future__ import annotations

import torch


def ensure_torchvision() -> None:
    """Declares the two compiled operators that torchvision expects, where they could not be loaded."""
    try:
        from mode_core.models.vision_ops import ensure_torchvision as shared
    except ImportError:
        pass
    else:
        shared()
        return
    for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                   "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
        try:
            torch.library.define(f"torchvision::{schema.split('(')[0]}", schema[schema.index("("):])
        except RuntimeError:
            pass
    import torchvision  # noqa: F401
