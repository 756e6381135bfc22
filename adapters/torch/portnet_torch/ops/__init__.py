"""Builders, one family a file: each turns one ONNX node (newest version of its op) into recorded calls.

Adding an op touches one of these files; a new file is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil

from portnet_torch.ops.registry import TABLE

__all__ = ["TABLE"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
