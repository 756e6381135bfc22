"""Sizes that are not known while a network is built.

A size is an int, or a sympy expression of symbols. A symbol stands for one axis of one tensor
(``Lowering.symbols``); axes that shape inference gave the same name share a symbol. Names of sizes that follow from
others keep what they stand for in ``named_sizes``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import sympy

if TYPE_CHECKING:
    from portnet.graph.lowering import Lowering
    from portnet.graph.passes.sizes import SizeWalk

__all__ = ["MADE", "NO_NAMES", "SIZES", "axis_size", "evaluate_size", "named_size", "register_sizes"]

# key of a graph's ``meta``: what the names of sizes stand for that follow from others, by name
SIZES = "portnet.sizes"
# how the names of such sizes begin; no symbol of a file may be taken for one
MADE = "= "
# what exporters write for a size that they do not know: two of them are not the same size
NO_NAMES = frozenset({"?", "-1", "None", ""})
MAX_NAME = 200
# those of sequences and optionals, whose shapes are those of what is in them, take longest to tell
_TENSORS = (ir.TensorType, ir.SparseTensorType, type(None))


def axis_size(walk: Lowering[Any] | SizeWalk, source: ir.Value, axis: int, dim: Any) -> Any:
    """Return the size ``dim`` of an axis of ``source``: a number, a symbol, or a sum or product of known symbols."""
    if isinstance(dim, int):
        return dim
    name = dim.value or f"{source.name}.{axis}"
    meaning = walk.named_sizes.get(name)
    if meaning is not None and all(symbol in walk.symbols for symbol in meaning.free_symbols):
        return meaning
    symbol = _symbol(name)
    walk.symbols.setdefault(symbol, (source, axis))
    return symbol


@functools.lru_cache(1 << 12)
def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, integer=True, positive=True)


def register_sizes(walk: Lowering[Any] | SizeWalk, value: ir.Value) -> None:
    """Remember that the free sizes of a tensor can be read from it."""
    shape = value.shape
    if shape is None or not isinstance(value.type, _TENSORS):
        return
    for axis, dim in enumerate(shape.dims):
        if not isinstance(dim, int) and dim.value not in walk.named_sizes:
            axis_size(walk, value, axis, dim)


def named_size(walk: SizeWalk, size: Any) -> int | str | None:
    """Return a number, or the name of an expression; ``walk.named_sizes`` keeps what it stands for.

    A name that would be too long is None: names contain each other.
    """
    if size is None:
        return None
    if not isinstance(size, sympy.Basic) or size.is_Integer:
        return int(size)
    if isinstance(size, sympy.Symbol):
        return str(size.name) if len(size.name) <= MAX_NAME else None
    name = MADE + str(size).replace(MADE, "")
    if len(name) > MAX_NAME:
        return None
    if _is_sum_of_products(size):
        walk.named_sizes[name] = size
    return name


def _is_sum_of_products(size: Any) -> bool:
    if size.is_Integer or size.is_Symbol:
        return True
    is_power = size.is_Pow and size.exp.is_Integer and size.exp > 0
    return (size.is_Add or size.is_Mul or is_power) and all(map(_is_sum_of_products, size.args))


def evaluate_size(
    size: Any, leaf: Callable[[sympy.Symbol], Any], larger: Callable[[Any, Any], Any] | None = None
) -> Any:
    """Compute a symbolic size with an engine's own integers.

    Args:
        size: an int or an expression from a `HostValue`.
        leaf: gives the engine's integer (anything with + - * //) for a symbol.
        larger: gives the larger one of two of the engine's integers, of which one may be an int.

    Raises:
        NotImplementedError: the arithmetic knows no such size.
    """
    if not isinstance(size, sympy.Basic):
        return int(size)
    if size.is_Integer:
        return int(size)
    if isinstance(size, sympy.Symbol):
        return leaf(size)
    if isinstance(size, sympy.floor):
        return _floor(size.args[0], leaf, larger)
    if isinstance(size, sympy.ceiling):
        return -_floor(-size.args[0], leaf, larger)
    if isinstance(size, sympy.Mul) and any(arg.is_Rational and not arg.is_Integer for arg in size.args):
        return _floor(size, leaf, larger)
    parts = [evaluate_size(arg, leaf, larger) for arg in size.args]
    if isinstance(size, sympy.Add):
        return functools.reduce(operator.add, parts)
    if isinstance(size, sympy.Mul):
        return functools.reduce(operator.mul, parts)
    if isinstance(size, sympy.Pow) and size.exp.is_Integer and size.exp > 0:
        return functools.reduce(operator.mul, [parts[0]] * int(size.exp))
    if isinstance(size, sympy.Max) and larger is not None:
        return functools.reduce(larger, parts)
    raise NotImplementedError(f"a size computed as {size}")


def _floor(expression: sympy.Expr, *arithmetic: Any) -> Any:
    numerator, denominator = sympy.fraction(sympy.together(expression))
    return evaluate_size(numerator, *arithmetic) // evaluate_size(denominator, *arithmetic)
