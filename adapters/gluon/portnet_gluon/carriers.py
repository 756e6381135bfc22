"""Element types that MXNet lacks, or has no arithmetic for on CPU, carried in others.

Narrow integers are held in wider ones and every result is brought back into range, as two's complement does: sums,
products, shifts and comparisons are exact. Narrow floats are held in float32 and rounded where the graph says
``Cast`` and where arrays leave: what lies between is more precise than ONNX asks for. Only the arrays that go in
and out are of another type than MXNet's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["CARRIERS", "FLOATS", "INTEGERS", "FloatFormat", "IntegerFormat", "carried"]


@dataclass(frozen=True)
class IntegerFormat:
    """A two's complement integer.

    Attributes:
        bits: its width.
        signed: whether half of its range is negative.
        carrier: numpy's name of the type that holds it.
    """

    bits: int
    signed: bool
    carrier: str

    @property
    def lowest(self) -> int:
        """Its lowest number."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Its highest number."""
        return self.lowest + 2**self.bits - 1

    @classmethod
    def named(cls, name: str) -> IntegerFormat:
        """Return the format of numpy's (or ml_dtypes') name, e.g. "uint4"."""
        bits = int(re.sub(r"\D", "", name))
        return cls(bits, not name.startswith("u"), CARRIERS.get(name, name))


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format, by IEEE 754's terms.

    Attributes:
        mantissa: bits after the point.
        emin: exponent of the smallest normal number.
        largest: largest finite number.
        infinite: whether it has infinities; what overflows becomes NaN where it has none.
    """

    mantissa: int
    emin: int
    largest: float
    infinite: bool


# ml_dtypes' names; the numbers are those of the ONNX standard's "Float stored in 8 bits" and "in 4 bits"
FLOATS = {
    "float16": FloatFormat(10, -14, 65504.0, True),
    "bfloat16": FloatFormat(7, -126, 3.3895313892515355e38, True),
    "float8_e4m3fn": FloatFormat(3, -6, 448.0, False),
    "float8_e4m3fnuz": FloatFormat(3, -7, 240.0, False),
    "float8_e5m2": FloatFormat(2, -14, 57344.0, True),
    "float8_e5m2fnuz": FloatFormat(2, -15, 57344.0, False),
    "float4_e2m1fn": FloatFormat(1, 0, 6.0, False),
}

CARRIERS = {
    **dict.fromkeys(("int2", "int4"), "int8"),
    **dict.fromkeys(("uint2", "uint4"), "uint8"),
    **dict.fromkeys(("int16", "uint16"), "int32"),
    "uint32": "int64",
    **dict.fromkeys(FLOATS, "float32"),
}

INTEGERS = {name: IntegerFormat.named(name) for name in CARRIERS if name not in FLOATS}


def carried(dtype: str) -> str:
    """Return the element type that MXNet holds tensors of ``dtype`` in."""
    return CARRIERS.get(dtype, dtype)
