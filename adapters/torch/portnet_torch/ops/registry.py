"""The table of builders, filled by decorators."""

from __future__ import annotations

from collections.abc import Callable

from portnet.graph.lowering import Builder

__all__ = ["TABLE", "op"]

# op name -> builder
TABLE: dict[str, Builder] = {}


def op(*names: str) -> Callable[[Builder], Builder]:
    """Register a builder for one op name or several."""

    def register(builder: Builder) -> Builder:
        TABLE.update(dict.fromkeys(names, builder))
        return builder

    return register
