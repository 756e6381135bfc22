"""One builder an operator, by family; `load` fills the table."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "load"]

FAMILIES = (
    *("activation", "contrib", "convolution", "creation", "elementwise", "gathering", "heads", "linear", "numpy"),
    *("normalization", "pooling", "recurrent", "reduction", "resizing", "reshaping", "slicing"),
)


def load() -> None:
    """Import every family, which registers its builders."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
