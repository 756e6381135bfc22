"""Ranges and roundings of element types that are carried in others."""

from __future__ import annotations

from portnet_gluon.carriers import FLOATS, IntegerFormat
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, cast, numpy_op

__all__ = ["half_even", "rounded", "wrapped"]


def wrapped(x: Symbol, dtype: str) -> Symbol:
    """Bring integers back into the range of ``dtype``, modulo two to its width."""
    form = IntegerFormat.named(dtype)
    shifted = x - form.lowest if form.lowest else x
    kept = numpy_op("bitwise_and_scalar", shifted, scalar=2**form.bits - 1, is_int=True)
    return kept + form.lowest if form.lowest else kept


def half_even(x: Symbol) -> Symbol:
    """Return x rounded, halves to even; twice the nearest integer of x / 2 is right exactly at the halves."""
    floor = mx.sym.floor(x)
    rest = mx.sym.elemwise_sub(x, floor)
    even = mx.sym.floor(x / 2 + 0.5) * 2
    return mx.sym.where(rest == 0.5, even, mx.sym.where(rest > 0.5, floor + 1, floor))


def rounded(x: Symbol, dtype: str, *, saturate: bool = True) -> Symbol:
    """Round floats to the numbers of a narrow format, halves to even; float32 comes out.

    Args:
        x: float32.
        dtype: a key of `FLOATS`.
        saturate: of the 8-bit formats: what overflows becomes the largest number, not infinity or NaN.
    """
    if dtype == "float16":
        return cast(cast(x, "float16"), "float32")
    form, wide = FLOATS[dtype], cast(x, "float64")
    quantum = mx.sym.broadcast_power(mx.sym.ones_like(wide) * 2, _exponent(wide, form.emin) - form.mantissa)
    near = half_even(wide / quantum) * quantum
    over = numpy_op("copysign", mx.sym.ones_like(wide) * _beyond(dtype, saturate=saturate), wide)
    finite = mx.sym.where(mx.sym.abs(near) > form.largest, over, near)
    result = mx.sym.where(cast(numpy_op("isinf", x), "float64"), over, finite)
    return cast(result + 0 if dtype.endswith("uz") else result, "float32")


def _beyond(dtype: str, *, saturate: bool) -> float:
    if saturate and dtype != "bfloat16":
        return FLOATS[dtype].largest
    return float("inf") if FLOATS[dtype].infinite else float("nan")


def _exponent(x: Symbol, lowest: int) -> Symbol:
    """Return the exponent of x, float64, at least ``lowest``; log2 may be off by one next to a power of two."""
    size = mx.sym.abs(x)
    guess = mx.sym.maximum(mx.sym.floor(mx.sym.log2(size)), lowest)
    power = mx.sym.broadcast_power(mx.sym.ones_like(x) * 2, guess)
    guess = guess + (size >= power * 2) - (size < power)
    return mx.sym.maximum(guess, lowest)
