"""Conversion between element types."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from portnet.graph.lowering import NodeView
from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import casting
from portnet_torch.ops.registry import Walk, op

_D = ir.DataType
_FLOAT8 = {_D.FLOAT8E4M3FN, _D.FLOAT8E4M3FNUZ, _D.FLOAT8E5M2, _D.FLOAT8E5M2FNUZ}

# casts to types that torch does not have: function and its arguments
_SPECIAL_CASTS = {
    _D.UINT16: (casting.to_bits, 16, False, torch.int32),
    _D.UINT32: (casting.to_bits, 32, False, torch.int64),
    _D.INT4: (casting.to_bits, 4, True, torch.int8),
    _D.UINT4: (casting.to_bits, 4, False, torch.uint8),
    _D.INT2: (casting.to_bits, 2, True, torch.int8),
    _D.UINT2: (casting.to_bits, 2, False, torch.uint8),
    _D.FLOAT4E2M1: (casting.to_small_float, 2, 1, 6.0),
    _D.FLOAT6E2M3: (casting.to_small_float, 2, 3, 7.5),
    _D.FLOAT6E3M2: (casting.to_small_float, 3, 2, 28.0),
}


@op("Cast")
def _cast(walk: Walk, node: NodeView) -> Any:
    return _cast_to(walk, node, ir.DataType(node["to"]))


@op("CastLike")
def _cast_like(walk: Walk, node: NodeView) -> Any:
    target = node.required(1).dtype
    if target is None:
        raise walk.unsupported("the type of the second input is not known")
    return _cast_to(walk, node, target)


def _cast_to(walk: Walk, node: NodeView, target: ir.DataType) -> Any:
    x, source = walk.value(node.required(0)), node.required(0).dtype
    if source is None:
        raise walk.unsupported("the type of the input is not known")
    return cast(walk, x, source, target, bool(node.get("saturate", 1)), node.get("round_mode", "up"))


def cast(
    walk: Walk, x: Any, source: ir.DataType, target: ir.DataType, saturate: bool = True, round_mode: str = "up"
) -> Any:
    """Return x of ONNX type ``source`` as ``target``; see `portnet_torch.functional.casting`."""
    if source == target:
        return x
    if target == ir.DataType.STRING:
        return walk.call(casting.to_strings, x)
    if source == ir.DataType.STRING:
        return walk.call(casting.from_strings, x, torch_dtype(target))
    if target in _SPECIAL_CASTS:
        function, *arguments = _SPECIAL_CASTS[target]
        return walk.call(function, x, *arguments)
    if target in _FLOAT8:
        return walk.call(casting.to_float8, x, torch_dtype(target), saturate)
    if target == ir.DataType.FLOAT8E8M0:
        return walk.call(casting.to_float8_e8m0, x, saturate, round_mode)
    if source == ir.DataType.UINT64 and torch_dtype(target).is_floating_point:
        return walk.call(casting.unsigned_to_float, x, torch_dtype(target))
    if target == ir.DataType.UINT64 and torch_dtype(source).is_floating_point:
        return walk.call(casting.float_to_unsigned, x)
    return walk.method("to", x, torch_dtype(target))


# carried types -> the torch type of their own bits
_BITS = {_D.UINT16: torch.int16, _D.UINT32: torch.int32}


@op("BitCast")
def _bit_cast(walk: Walk, node: NodeView) -> Any:
    source, target = node.required(0).dtype, ir.DataType(node["to"])
    x = walk.value(node.required(0))
    if source.bitwidth < 8:
        function, *arguments = _SPECIAL_CASTS[target]
        return walk.call(function, x, *arguments)
    x = walk.method("to", x, _BITS[source]) if source in _BITS else x
    x = walk.method("view", x, _BITS.get(target, torch_dtype(target)))
    return cast(walk, x, _D.INT64, target) if target in _BITS else x
