"""What is a network of MXNet's, told without importing MXNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_a", "owns"]


def owns(native: Any) -> bool:
    """Whether a network is MXNet's: a block, a module, or a symbol with its parameters, (symbol, params) or
    (symbol, arg_params, aux_params); told by the names of its classes, nothing is imported.
    """
    if isinstance(native, tuple) and 2 <= len(native) <= 3:
        return is_a(native[0], "Symbol", "mxnet.symbol") and all(isinstance(each, Mapping) for each in native[1:])
    return is_a(native, "Block", "mxnet.gluon") or is_a(native, "BaseModule", "mxnet.module")


def is_a(value: Any, name: str, module: str) -> bool:
    """Whether a value's class, or one that it derives from, is called ``name`` and comes from ``module``."""
    return any(base.__name__ == name and base.__module__.startswith(module) for base in type(value).__mro__)
