"""Sizes that are free as lengths: a vector as long as a size, to count by, to cut by and to broadcast like.

A symbol of MXNet cannot take a size as an argument, but many of its operators do something like another tensor.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import sympy

from portnet.graph.floors import floor_of
from portnet.graph.sizes import axis_size, evaluate_size
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import BOOL_AS_BYTES, Symbol, cast

__all__ = ["counted", "cut_like", "plain", "ruler", "size_of"]


def size_of(walk: Any, value: ir.Value, axis: int) -> Any:
    """Return an axis's size: a number, or the symbol that stands for it."""
    known = walk.static_shape(value)
    if known is not None and known[axis] is not None:
        return known[axis]
    return axis_size(walk, value, axis, ir.SymbolicDim(None) if value.shape is None else value.shape[axis])


def plain(size: Any) -> Any:
    """Return a size as an int where it is a number, as sizes may differ by one."""
    return int(size) if getattr(size, "is_Integer", False) else size


def ruler(walk: Any, size: Any) -> Symbol:
    """Return a float32 vector as long as a symbolic size, its numbers not to be read.

    Raises:
        UnsupportedError: the size is computed in a way that lengths do not follow.
    """
    for spelled in (size, _turned(size)):
        found = _length(walk, spelled)
        if found is not None:
            return found
    raise walk.unsupported(f"a length of the computed size {size}")


def _length(walk: Any, size: Any) -> Symbol | None:
    """Return a vector as long as a size, or None where lengths do not follow its arithmetic as it is written."""
    try:
        found = evaluate_size(size, lambda symbol: _Length(_read(walk, symbol)))
    except (TypeError, NotImplementedError):
        return None
    return found.whole() if isinstance(found, _Length) and not found.negative else None


def _turned(size: Any) -> Any:
    """Return a size whose floors are of the smaller share: ⌊3n / 4⌋ = n - ⌊(n + 3) / 4⌋.

    What an exporter computes to fill up to a multiple, 4n - 4⌊3n / 4⌋, is a multiple then.
    """
    return sympy.expand(sympy.expand(size).replace(sympy.floor, _turned_floor))


def _turned_floor(share: Any) -> Any:
    terms = sympy.expand(share).as_coeff_add()[1]
    if not all(2 * term.as_coeff_Mul()[0] >= 1 for term in terms):
        return sympy.floor(share)
    whole = sum(term.as_coeff_Mul()[1] for term in terms)
    divisor = sympy.fraction(sympy.together(share))[1]
    return whole - floor_of(whole - share + 1 - sympy.Rational(1, divisor))


def counted(walk: Any, size: Any, start: Any = 0, step: Any = 1, dtype: str = "int64") -> Symbol:
    """Return as many numbers as a size says: start, start + step, and so on."""
    known = plain(size)
    places = mx.sym.arange(known) if isinstance(known, int) else mx.sym.contrib.arange_like(ruler(walk, size), axis=0)
    return cast(places if (start, step) == (0, 1) else places * step + start, dtype)


def cut_like(walk: Any, x: Symbol, rank: int, axis: int, size: Any) -> Symbol:
    """Cut off what an axis has beyond a symbolic size, which it must not fall short of."""
    shape = [1] * axis + [-1] + [1] * (rank - axis - 1)
    return mx.sym.slice_like(x, mx.sym.reshape(ruler(walk, size), shape=shape), axes=(axis,))


def _read(walk: Any, symbol: Any) -> Symbol:
    """Return a vector as long as the axis that a symbol was read from."""
    source, axis = walk.symbols[symbol]
    dtype = walk.dtype(source)
    x = cast(walk.value(source), BOOL_AS_BYTES[dtype]) if dtype in BOOL_AS_BYTES else walk.value(source)
    for other in range(walk.rank(source)):
        if other != axis:
            x = mx.sym.slice_axis(x, axis=other, begin=0, end=1)
    return mx.sym.zeros_like(mx.sym.cast(mx.sym.reshape(x, shape=(-1,)), dtype="float32"))


class _Length:
    """A size as the length of a vector, and a number still to be added, with the arithmetic that lengths can follow.

    MXNet knows no empty vectors, and a floor may be nothing before something is added to it.
    """

    def __init__(self, vector: Symbol, more: int = 0, *, negative: bool = False) -> None:
        self.vector, self.more, self.negative = vector, more, negative

    def whole(self) -> Symbol:
        """Return a vector of the whole length."""
        return _extended(self.vector, self.more)

    def __add__(self, other: Any) -> _Length:
        if isinstance(other, _Length) and other.negative == self.negative:
            joined = mx.sym.concat(self.vector, other.vector, dim=0)
            return _Length(joined, self.more + other.more, negative=self.negative)
        if not isinstance(other, int):
            return NotImplemented
        return _Length(self.vector, self.more + (-other if self.negative else other), negative=self.negative)

    def __mul__(self, other: Any) -> _Length:
        if isinstance(other, _Length):
            table = mx.sym.broadcast_mul(
                mx.sym.expand_dims(self.whole(), axis=1), mx.sym.expand_dims(other.whole(), axis=0)
            )
            return _Length(mx.sym.reshape(table, shape=(-1,)), negative=self.negative != other.negative)
        if not isinstance(other, int) or other == 0:
            return NotImplemented
        times = mx.sym.repeat(self.vector, repeats=abs(other)) if abs(other) > 1 else self.vector
        return _Length(times, self.more * abs(other), negative=self.negative != (other < 0))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> _Length:
        return self * -1

    def __floordiv__(self, other: Any) -> _Length:
        if not isinstance(other, int) or other <= 0:
            return NotImplemented
        # of a negative size the floor is further from zero
        more = self.more + (other - 1 if self.negative else 0)
        # ⌊n / d⌋ = ⌈(n + 1) / d⌉ - 1, of which the first is never nothing
        steps = mx.sym.slice(_extended(self.vector, more % other + 1), begin=(0,), end=(None,), step=(other,))
        return _Length(steps, more // other - 1, negative=self.negative)


def _extended(vector: Symbol, more: int) -> Symbol:
    if more < 0:
        return mx.sym.slice_axis(vector, axis=0, begin=0, end=more)
    return mx.sym.concat(vector, mx.sym.zeros(more), dim=0) if more else vector
