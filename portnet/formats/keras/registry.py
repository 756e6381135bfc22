"""The table of layers that have a translation: kind → builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["TABLE", "layer"]

# (walk, layer node) -> a Held, or a list of them for several outputs
Builder = Callable[[Any, Any], Any]

TABLE: dict[str, Builder] = {}


def layer(*kinds: str) -> Callable[[Builder], Builder]:
    """Register the translation of some kinds of layers."""

    def register(builder: Builder) -> Builder:
        for kind in kinds:
            TABLE[kind] = builder
        return builder

    return register
