"""Element types that Keras lacks: 2- and 4-bit integers, 4- and 8-bit floats.

A tensor of such a type is kept in a wider one that holds each of its values exactly. Only a cast into the type
needs arithmetic, and where arrays enter and leave the network they change type on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet_keras.framework import ops

__all__ = ["FLOATS", "INTEGERS", "narrowed", "stored_as", "to_stored"]


@dataclass(frozen=True)
class SmallFloat:
    """A small floating-point type.

    Attributes:
        mantissa: bits of the mantissa.
        smallest: exponent of the smallest normal number.
        largest: largest finite number.
        overflow: what lies beyond, where it is not saturated.
        has_zero_sign: whether there is a negative zero.
    """

    mantissa: int
    smallest: int
    largest: float
    overflow: float
    has_zero_sign: bool = True


FLOATS: dict[str, SmallFloat] = {
    "FLOAT8E4M3FN": SmallFloat(3, -6, 448.0, np.nan),
    "FLOAT8E4M3FNUZ": SmallFloat(3, -7, 240.0, np.nan, has_zero_sign=False),
    "FLOAT8E5M2": SmallFloat(2, -14, 57344.0, np.inf),
    "FLOAT8E5M2FNUZ": SmallFloat(2, -15, 57344.0, np.nan, has_zero_sign=False),
    "FLOAT4E2M1": SmallFloat(1, 0, 6.0, 6.0),
    "FLOAT8E8M0": SmallFloat(0, -127, 2.0**127, np.nan),
}

# bits and sign
INTEGERS: dict[str, tuple[int, bool]] = {
    "INT4": (4, True),
    "UINT4": (4, False),
    "INT2": (2, True),
    "UINT2": (2, False),
}


def stored_as(dtype: ir.DataType) -> str | None:
    """Return the type that holds a narrow one, or None for a type that is not narrow."""
    if dtype.name in FLOATS:
        return "float32"
    if dtype.name in INTEGERS:
        return "int8" if INTEGERS[dtype.name][1] else "uint8"
    return None


def to_stored(array: np.ndarray) -> np.ndarray:
    """Return an array in the type that the network keeps it in."""
    if array.dtype.kind in "OUS":
        return array
    stored = stored_as(ir.DataType.from_numpy(array.dtype))
    return array if stored is None else array.astype(np.float32).astype(stored)


def narrowed(x: Any, dtype: ir.DataType, *, saturate: bool = True, round_mode: str = "up") -> Any:
    """Cast a tensor to a narrow type, kept in its wider one."""
    if dtype.name in INTEGERS:
        return _wrapped(x, *INTEGERS[dtype.name])
    x = ops.cast(x, "float32")
    if dtype.name == "FLOAT8E8M0":
        return _power_of_two(x, saturate, round_mode)
    return _rounded(x, FLOATS[dtype.name], saturate)


def _wrapped(x: Any, bits: int, signed: bool) -> Any:
    """Drop the fraction and keep the lowest bits."""
    half = 2 ** (bits - 1) if signed else 0
    whole = ops.cast(x, "int32")
    kept = ops.subtract(ops.bitwise_and(ops.add(whole, half), np.int32(2**bits - 1)), half)
    return ops.cast(kept, "int8" if signed else "uint8")


def _exponent(x: Any) -> Any:
    """Return ⌊log₂ x⌋ of positive normal float32, from its bits."""
    return ops.subtract(ops.right_shift(ops.view(x, dtype="int32"), 23), 127)


def _two_to(exponent: Any) -> Any:
    return ops.view(ops.left_shift(ops.add(exponent, 127), 23), dtype="float32")


def _rounded(x: Any, spec: SmallFloat, saturate: bool) -> Any:
    """Round half to even, in steps of the last bit of the mantissa."""
    size = ops.abs(x)
    step = _two_to(ops.subtract(ops.maximum(_exponent(size), spec.smallest), spec.mantissa))
    rounded = ops.multiply(ops.round(ops.divide(size, step)), step)
    beyond = spec.largest if saturate else spec.overflow
    rounded = ops.where(ops.greater(rounded, spec.largest), ops.cast(beyond, "float32"), rounded)
    rounded = ops.where(ops.isnan(x), x, rounded)
    signed = ops.where(ops.signbit(x), ops.negative(rounded), rounded)
    return signed if spec.has_zero_sign else ops.add(signed, 0.0)


def _power_of_two(x: Any, saturate: bool, round_mode: str) -> Any:
    """Round to a power of two: up, down or to the nearest, ties up."""
    size = ops.abs(x)
    exponent = ops.maximum(_exponent(size), -126)
    low = _two_to(exponent)
    share = ops.divide(size, low)
    up = {"up": ops.greater(share, 1.0), "down": ops.less(share, 0.0), "nearest": ops.greater_equal(share, 1.5)}
    rounded = ops.where(up[round_mode], ops.multiply(low, 2.0), low)
    beyond = 2.0**127 if saturate else np.nan
    rounded = ops.where(ops.greater(rounded, 2.0**127), ops.cast(beyond, "float32"), rounded)
    return ops.where(ops.isnan(x), x, rounded)
