"""The table of builders, filled by ``@op`` where they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from portnet.graph.lowering import Builder

__all__ = ["SPATIAL", "TABLE", "TRANSPARENT", "op"]

TABLE: dict[str, Builder] = {}

# ops that work channels last, and ops that take any order
SPATIAL: set[str] = set()
TRANSPARENT: set[str] = set()

B = TypeVar("B", bound=Builder)


def op(*names: str, spatial: bool = False, transparent: bool = False) -> Callable[[B], B]:
    """Register a builder ``f(walk, node)`` for ops.

    It returns data in ONNX's order, or a `KValue`; one of them, or a list in the order of the node's outputs.

    Args:
        names: op names as `portnet.graph.lowering.op_name` spells them.
        spatial: the op's first input is wanted channels last.
        transparent: the op takes its inputs in any order and passes it on.
    """

    def register(builder: B) -> B:
        for name in names:
            TABLE[name] = builder
            if spatial:
                SPATIAL.add(name)
            if transparent:
                TRANSPARENT.add(name)
        return builder

    return register
