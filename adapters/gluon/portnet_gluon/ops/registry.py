"""The table of builders, and the few things they all use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnet.graph.lowering import Builder
from portnet_gluon.compat import mx, npi

__all__ = ["TABLE", "Symbol", "numpy_op", "op"]

Symbol = mx.sym.Symbol

TABLE: dict[str, Builder] = {}


def op(*names: str) -> Callable[[Builder], Builder]:
    """Register a builder for the ops called ``names``."""

    def register(builder: Builder) -> Builder:
        TABLE.update(dict.fromkeys(names, builder))
        return builder

    return register


def numpy_op(operator: str, *inputs: Any, **attributes: Any) -> Any:
    """Call an operator of MXNet's numpy family on classic symbols: at the level of the graph there is one family.

    Returns:
        One classic symbol (of as many outputs as the operator has).
    """
    arguments = [value.as_np_ndarray() if isinstance(value, Symbol) else value for value in inputs]
    return getattr(npi, operator)(*arguments, **attributes).as_nd_ndarray()
