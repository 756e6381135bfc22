"""Element types that MXNet lacks, carried in wider ones.

A tensor of int16, uint16 or uint32 is held in int32 or int64, and every result is brought back into its range,
as two's complement does. So sums, products, shifts and comparisons are exact; only the arrays that go in and out
are of another type than MXNet's.
"""

from __future__ import annotations

import numpy as np

from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, numpy_op

__all__ = ["CARRIERS", "carried", "wrapped"]

CARRIERS = {"int16": "int32", "uint16": "int32", "uint32": "int64"}


def carried(dtype: str) -> str:
    """Return the element type that MXNet holds tensors of ``dtype`` in."""
    return CARRIERS.get(dtype, dtype)


def wrapped(x: Symbol, dtype: str) -> Symbol:
    """Bring a carried tensor back into the range of ``dtype``, modulo two to its width."""
    info = np.iinfo(dtype)
    mask, offset = 2**info.bits - 1, -int(info.min)
    if not offset:
        return numpy_op("bitwise_and_scalar", x, scalar=mask, is_int=True)
    shifted = numpy_op("bitwise_and_scalar", mx.sym.broadcast_add(x, _full(x, offset)), scalar=mask, is_int=True)
    return mx.sym.broadcast_sub(shifted, _full(x, offset))


def _full(x: Symbol, number: int) -> Symbol:
    return numpy_op("full_like", x, fill_value=number)
