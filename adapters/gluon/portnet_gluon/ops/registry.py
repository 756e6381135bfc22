"""The table of builders, and the few things they all use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from portnet.graph.lowering import Builder, NodeView
from portnet_gluon.compat import mx, npi

__all__ = [
    "BOOL_AS_BYTES",
    "INTEGERS_AS_DOUBLE",
    "TABLE",
    "Builder",
    "Symbol",
    "cast",
    "numpy_op",
    "op",
]

Symbol = mx.sym.Symbol

TABLE: dict[str, Builder] = {}

# element types that an operator has no kernel for on CPU, and the one it is computed in without another result
BOOL_AS_BYTES = {"bool": "uint8"}
# exact below 2**53
INTEGERS_AS_DOUBLE = dict.fromkeys(("int8", "uint8", "int32"), "float64")


def op(*names: str, instead: Mapping[str, str] | None = None) -> Callable[[Builder], Builder]:
    """Register a builder for the ops called ``names``.

    Args:
        names: op names.
        instead: element types to compute in place of those that MXNet has no kernel for.
    """

    def register(builder: Builder) -> Builder:
        registered = functools.partial(_substituted, builder, instead) if instead else builder
        TABLE.update(dict.fromkeys(names, registered))
        return builder

    return register


def _substituted(builder: Builder, instead: Mapping[str, str], walk: Any, node: NodeView) -> Any:
    """Run a builder on inputs cast to the types that are computed instead, and cast its outputs back."""
    with walk.rebound({value: cast(walk.value(value), to) for value, to in _changes(walk, node.inputs, instead)}):
        produced = builder(walk, node)
    results = list(produced) if isinstance(produced, (list, tuple)) else [produced]
    back = dict(_changes(walk, node.outputs, {name: name for name in instead}))
    return [
        cast(result, back[value]) if value in back else result
        for result, value in zip(results, node.outputs, strict=False)
    ]


def _changes(walk: Any, values: Any, instead: Mapping[str, str]) -> list[tuple[Any, str]]:
    named = [value for value in values if value is not None and value.dtype is not None]
    return [(value, instead[walk.dtype(value)]) for value in named if walk.dtype(value) in instead]


def cast(x: Symbol, dtype: str) -> Symbol:
    """Convert to another element type."""
    return mx.sym.cast(x, dtype=dtype)


def numpy_op(operator: str, *inputs: Any, **attributes: Any) -> Any:
    """Call an operator of MXNet's numpy family on classic symbols: at the level of the graph there is one family.

    Returns:
        One classic symbol (of as many outputs as the operator has).
    """
    arguments = [value.as_np_ndarray() if isinstance(value, Symbol) else value for value in inputs]
    return getattr(npi, operator)(*arguments, **attributes).as_nd_ndarray()
