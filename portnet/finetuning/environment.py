"""The environment a run was made in, as far as it may change a result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from portnet import __version__
from portnet.adapter import Adapter

__all__ = ["environment"]

_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "pillow")


def environment(adapter: Adapter) -> dict[str, str]:
    """Return versions of PortNet, Python, the engine and what the core uses, system and processor count."""
    found = {
        "portnet": __version__,
        "python": platform.python_version(),
        adapter.name: adapter.version(),
        "system": platform.platform(),
        "processors": str(os.cpu_count()),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
