"""The table of builders, filled by decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from portnet.graph.lowering import Builder

if TYPE_CHECKING:
    from portnet_torch.lower import TorchLowering

    Walk: TypeAlias = TorchLowering
else:
    Walk = Any

__all__ = ["TABLE", "Walk", "op"]

# op name -> builder
TABLE: dict[str, Builder] = {}


def op(*names: str) -> Callable[[Builder], Builder]:
    """Register a builder for one op name or several."""

    def register(builder: Builder) -> Builder:
        TABLE.update(dict.fromkeys(names, builder))
        return builder

    return register
