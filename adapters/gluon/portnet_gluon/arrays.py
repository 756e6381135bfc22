"""Arrays across the border, and the shape semantics they need.

MXNet's classic arrays know neither 0-D nor empty shapes unless numpy's shape semantics are switched on for the
thread; everything this engine does happens inside `shapes_as_in_numpy`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.errors import UnsupportedError
from portnet_gluon.compat import mx

__all__ = ["DTYPES", "check_size", "context", "shapes_as_in_numpy", "to_mxnet"]

DTYPES = frozenset({"float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool"})

# MXNet 1.9.1 is built with 32-bit sizes
MAX_ELEMENTS = 2**31 - 1


def shapes_as_in_numpy() -> Any:
    """Context manager and decorator: 0-D and empty arrays are legal in this thread."""
    return mx.util.np_shape(True)


def context(device: str) -> Any:
    """Return MXNet's context of "cpu" or "gpu:<index>"."""
    kind, _, index = device.partition(":")
    return mx.gpu(int(index or 0)) if kind == "gpu" else mx.cpu()


def check_size(name: str, array: np.ndarray) -> None:
    """Refuse what MXNet has no array for.

    Raises:
        UnsupportedError: element type or size.
    """
    if array.dtype.name not in DTYPES:
        raise UnsupportedError(f"{name!r}: MXNet has no arrays of {array.dtype.name}")
    if array.size > MAX_ELEMENTS:
        raise UnsupportedError(f"{name!r}: MXNet's arrays end at {MAX_ELEMENTS:,} elements, got {array.size:,}")


def to_mxnet(array: np.ndarray, ctx: Any) -> Any:
    """Copy an array into an ``mx.nd.NDArray`` of the same shape and dtype."""
    array = np.asarray(array)
    result = mx.nd.empty(array.shape, ctx=ctx, dtype=array.dtype)
    if array.size:
        result._sync_copyfrom(np.ascontiguousarray(array).reshape(array.shape))
    return result
