"""Sizes that are free as lengths: a vector as long as a size, to count by, to cut by and to broadcast like.

A symbol of MXNet cannot take a size as an argument, but many of its operators do something like another tensor.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from portnet.graph.sizes import axis_size, evaluate_size
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, cast

__all__ = ["counted", "cut_like", "ruler", "size_of"]


def size_of(walk: Any, value: ir.Value, axis: int) -> Any:
    """Return an axis's size: a number, or the symbol that stands for it."""
    known = walk.static_shape(value)
    if known is not None and known[axis] is not None:
        return known[axis]
    return axis_size(walk, value, axis, ir.SymbolicDim(None) if value.shape is None else value.shape[axis])


def ruler(walk: Any, size: Any) -> Symbol:
    """Return a float32 vector as long as a symbolic size, its numbers not to be read.

    Raises:
        UnsupportedError: the size is computed in a way that lengths do not follow.
    """
    try:
        found = evaluate_size(size, lambda symbol: _Length(_read(walk, symbol)))
    except (TypeError, NotImplementedError) as error:
        raise walk.unsupported(f"a length of the computed size {size}") from error
    if not isinstance(found, _Length) or found.negative:
        raise walk.unsupported(f"a length of the computed size {size}")
    return found.vector


def counted(walk: Any, size: Any, start: Any = 0, step: Any = 1, dtype: str = "int64") -> Symbol:
    """Return as many numbers as a size says: start, start + step, and so on."""
    known = getattr(size, "is_Integer", True)  # two sizes may differ by a number
    places = mx.sym.arange(int(size)) if known else mx.sym.contrib.arange_like(ruler(walk, size), axis=0)
    return cast(places if (start, step) == (0, 1) else places * step + start, dtype)


def cut_like(walk: Any, x: Symbol, rank: int, axis: int, size: Any) -> Symbol:
    """Cut off what an axis has beyond a symbolic size, which it must not fall short of."""
    shape = [1] * axis + [-1] + [1] * (rank - axis - 1)
    return mx.sym.slice_like(x, mx.sym.reshape(ruler(walk, size), shape=shape), axes=(axis,))


def _read(walk: Any, symbol: Any) -> Symbol:
    """Return a vector as long as the axis that a symbol was read from."""
    source, axis = walk.symbols[symbol]
    x = walk.value(source)
    for other in range(walk.rank(source)):
        if other != axis:
            x = mx.sym.slice_axis(x, axis=other, begin=0, end=1)
    return mx.sym.zeros_like(mx.sym.cast(mx.sym.reshape(x, shape=(-1,)), dtype="float32"))


class _Length:
    """A size as the length of a vector, with the arithmetic that lengths can follow."""

    def __init__(self, vector: Symbol, negative: bool = False) -> None:
        self.vector, self.negative = vector, negative

    def __add__(self, other: Any) -> _Length:
        if isinstance(other, _Length) and other.negative == self.negative:
            return _Length(mx.sym.concat(self.vector, other.vector, dim=0), self.negative)
        if not isinstance(other, int):
            return NotImplemented
        more = -other if self.negative else other
        if more < 0:
            return _Length(mx.sym.slice_axis(self.vector, axis=0, begin=0, end=more), self.negative)
        return _Length(mx.sym.concat(self.vector, mx.sym.zeros(more), dim=0) if more else self.vector, self.negative)

    def __mul__(self, other: Any) -> _Length:
        if isinstance(other, _Length):
            table = mx.sym.broadcast_mul(
                mx.sym.expand_dims(self.vector, axis=1), mx.sym.expand_dims(other.vector, axis=0)
            )
            return _Length(mx.sym.reshape(table, shape=(-1,)), self.negative != other.negative)
        if not isinstance(other, int) or other == 0:
            return NotImplemented
        times = mx.sym.repeat(self.vector, repeats=abs(other)) if abs(other) > 1 else self.vector
        return _Length(times, self.negative != (other < 0))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> _Length:
        return self * -1

    def __floordiv__(self, other: Any) -> _Length:
        if not isinstance(other, int) or other <= 0:
            return NotImplemented
        # of a negative size the floor is further from zero
        begin = 0 if self.negative else other - 1
        return _Length(mx.sym.slice(self.vector, begin=(begin,), end=(None,), step=(other,)), self.negative)
