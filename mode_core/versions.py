"""Which software made a result: what run.json, evidence and manifests say of it."""

import platform
from importlib.metadata import PackageNotFoundError, version

from mode_core import __version__

PACKAGES = ("torch", "transformers", "numpy", "scipy", "pandas", "safetensors")


def versions() -> dict[str, str | None]:
    """Of this library, Python and the packages that numbers depend on; None for one that is not installed."""
    said: dict[str, str | None] = {"mode_core": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            said[package] = version(package)
        except PackageNotFoundError:
            said[package] = None
    return said
