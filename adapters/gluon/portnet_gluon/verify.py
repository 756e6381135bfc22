"""Compares what MXNet infers of a lowered graph with what ONNX says of it, before anything runs.

MXNet computes some integer results in float32 and gives some operators other shapes than ONNX's. A network in
which that happens is refused here, at the first tensor where both differ.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet_gluon.compat import mx

if TYPE_CHECKING:
    from portnet_gluon.lower import GluonLowering
    from portnet_gluon.ops.registry import Symbol

__all__ = ["verify"]


def verify(walk: GluonLowering, outputs: list[Symbol]) -> None:
    """Check dtypes of all tensors, and shapes where the inputs' are fixed.

    Raises:
        UnsupportedError: MXNet's inference fails or disagrees.
    """
    bound = [(value, walk.values[value]) for node in walk.graph for value in node.outputs if value in walk.values]
    if not bound:
        return
    group = mx.sym.Group([*(symbol for _, symbol in bound), *outputs])
    types = _infer(group.infer_type)
    shapes = _infer(group.infer_shape, **_input_shapes(walk)) if _sizes_fixed(walk) else None
    for i, (value, _) in enumerate(bound):
        _compare(value, types[i], None if shapes is None else shapes[i])


def _infer(method: Any, **known: Any) -> Any:
    try:
        return method(**known)[1]
    except mx.base.MXNetError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UnsupportedError(f"gluon: MXNet's inference failed: {lines[-1]}", engine="gluon") from error


def _input_shapes(walk: GluonLowering) -> dict[str, tuple[int, ...]]:
    initializers = walk.graph.initializers
    return {
        value.name: tuple(value.shape)  # type: ignore[misc]
        for value in walk.graph.inputs
        if value.name not in initializers
    }


def _sizes_fixed(walk: GluonLowering) -> bool:
    return all(
        isinstance(size, int)
        for value in walk.graph.inputs
        if value.name not in walk.graph.initializers
        for size in (("?",) if value.shape is None else value.shape)
    )


def _compare(value: ir.Value, dtype: Any, shape: Any) -> None:
    node = value.producer()
    where = f"gluon: {node.op_type} node {node.name!r}" if node is not None else "gluon"
    if dtype is not None and value.dtype is not None and np.dtype(dtype) != value.dtype.numpy():
        raise UnsupportedError(f"{where}: output {value.name!r} would be {dtype}, expected {value.dtype.numpy()}")
    if shape is None or value.shape is None:
        return
    expected = [size if isinstance(size, int) else None for size in value.shape]
    agrees = len(expected) == len(shape) and all(e in (None, s) for e, s in zip(expected, shape, strict=False))
    if not agrees and math.prod(shape) >= 0:
        raise UnsupportedError(f"{where}: output {value.name!r} would have shape {tuple(shape)}, expected {expected}")
