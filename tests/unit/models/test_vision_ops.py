"""Processors import beside this torch, whatever build it is."""

from mode_core.models import ensure_torchvision


def test_torchvision_imports_and_twice_is_free():
    """In whichever process comes first: `tests/conftest.py` makes its models after the same call."""
    ensure_torchvision()
    import torchvision

    ensure_torchvision()
    assert torchvision.transforms.InterpolationMode.BICUBIC.value == "bicubic"
