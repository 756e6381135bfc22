"""Entries by index, and single ones by class."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op
from portnet.formats.mxnet.ops.linear import as_indices


@op("take")
def take(layer: Layer) -> ir.Value:
    """Indices beyond the ends are clipped, unless ``mode`` is wrap."""
    get, x = layer.attributes, layer.value(0)
    axis = layer.axis(get.integer("axis", 0), layer.rank(x))
    mode, size = get.text("mode", "clip"), layer.size(x, axis)
    indices = as_indices(layer, layer.value(1))
    if mode == "clip":
        bounds = [layer.ints(0, "first"), layer.ints(size - 1, "last")]
        indices = layer.step("Clip", [indices, *bounds], "clipped")
    elif mode == "wrap":
        indices = layer.step("Mod", [indices, layer.ints(size, "size")], "wrapped")
    elif mode != "raise":
        raise Refused(f"mode={mode}")
    return layer.final("Gather", [x, indices], axis=axis)


@op("pick")
def pick(layer: Layer) -> ir.Value:
    """One entry along an axis for each index."""
    get, x = layer.attributes, layer.value(0)
    rank = layer.rank(x)
    axis, mode = layer.axis(get.integer("axis", -1), rank), get.text("mode", "clip")
    if mode != "clip":
        raise Refused(f"mode={mode}")
    indices = as_indices(layer, layer.value(1))
    bounds = [layer.ints(0, "first"), layer.ints(layer.size(x, axis) - 1, "last")]
    indices = layer.step("Clip", [indices, *bounds], "clipped")
    axes = layer.ints([axis], "axes")
    if layer.rank(indices) == rank - 1:
        indices = layer.step("Unsqueeze", [indices, axes], "column")
    if get.flag("keepdims", False):
        return layer.final("GatherElements", [x, indices], axis=axis)
    picked = layer.step("GatherElements", [x, indices], "picked", axis=axis)
    return layer.final("Squeeze", [picked, axes])


@op("one_hot")
def one_hot(layer: Layer) -> ir.Value:
    get, indices = layer.attributes, as_indices(layer, layer.value(0))
    depth, dtype = get.integer("depth", least=1), layer.dtype(get.text("dtype", "float32"))
    if depth > 1 << 24:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): depth got {depth}")
    values = layer.writer.constant(
        [get.number("off_value", 0.0), get.number("on_value", 1.0)], f"{layer.name}/v", dtype
    )
    return layer.final("OneHot", [indices, layer.ints(depth, "depth"), values], axis=-1)
