"""Changes of element type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue
from portnet_keras.narrow import narrowed, stored_as
from portnet_keras.ops.registry import op

__all__: list[str] = []


@op("Cast", transparent=True)
def cast(walk: Any, node: NodeView) -> KValue:
    """Change the element type."""
    x, target = walk.value(node.required(0)), ir.DataType(node["to"])
    if stored_as(target) is not None:
        data = narrowed(x.data, target, saturate=bool(node["saturate"]), round_mode=node.get("round_mode", "up"))
        return replace(x, data=data)
    return replace(x, data=_cast(x.data, walk.dtype_name(target)))


@op("CastLike", transparent=True)
def cast_like(walk: Any, node: NodeView) -> KValue:
    """Change the element type to another tensor's."""
    x, like = walk.value(node.required(0)), node.required(1)
    if like.dtype is not None and stored_as(like.dtype) is not None:
        return replace(x, data=narrowed(x.data, like.dtype, saturate=bool(node["saturate"])))
    return replace(x, data=_cast(x.data, keras.backend.standardize_dtype(walk.value(like).data.dtype)))


def _cast(x: Any, target: str) -> Any:
    source = keras.backend.standardize_dtype(x.dtype)
    if target == "bool":
        return ops.not_equal(x, 0) if source != "bool" else x
    if "float" in source and "int" in target:
        # out of range, TensorFlow saturates or wraps by type; through 64 bits it wraps
        return ops.cast(ops.cast(x, "int64"), target)
    return ops.cast(x, target)


@op("BitCast")
def bit_cast(walk: Any, node: NodeView) -> Any:
    """Read the bits as another type of the same width."""
    x, target = walk.plain(node.required(0)), ir.DataType(node["to"])
    if stored_as(target) is not None or stored_as(node.required(0).dtype or target) is not None:
        raise walk.unsupported(f"bits of {target.name.lower()}")
    name = walk.dtype_name(target)
    if keras.backend.standardize_dtype(x.dtype) == "bool":
        x = ops.cast(x, "uint8")
    return ops.not_equal(ops.view(x, dtype="uint8"), 0) if name == "bool" else ops.view(x, dtype=name)
