"""Shape, order and type of tensors: what moves or reinterprets elements and computes nothing."""

from __future__ import annotations

from operator import getitem
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from portnet.graph.lowering import NodeView
from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import shapes
from portnet_torch.ops.recurrent import is_taken_over
from portnet_torch.ops.registry import Walk, op

_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@op("Identity")
def _identity(walk: Walk, node: NodeView) -> Any:
    return walk.value(node.required(0))


@op("Constant")
def _constant(walk: Walk, node: NodeView) -> Any:
    name = next(name for name in ("value_string", "value_strings", "value") if name in node.attributes)
    dtype = object if name != "value" else None
    return walk.make_constant(node.outputs[0], np.array(node[name], dtype=dtype))


@op("ConstantOfShape")
def _constant_of_shape(walk: Walk, node: NodeView) -> Any:
    fill = node.get("value")
    dtype = walk.dtype(node.outputs[0])
    number = 0.0 if fill is None else fill.reshape(-1)[0].item()
    return walk.call(torch.full, walk.ints(node.required(0)), number, dtype=dtype, device=walk.shared.device)


@op("Shape")
def _shape(walk: Walk, node: NodeView) -> Any:
    return walk.call(shapes.shape, walk.value(node.required(0)), node["start"], node.get("end"))


@op("Size")
def _size(walk: Walk, node: NodeView) -> Any:
    return walk.call(shapes.size, walk.value(node.required(0)))


@op("Reshape")
def _reshape(walk: Walk, node: NodeView) -> Any:
    x = walk.value(node.required(0))
    known = walk.try_host(node.required(1))
    if known is None:
        return walk.call(shapes.reshape, x, walk.ints(node.required(1)), bool(node["allowzero"]))
    dims = walk.ints(node.required(1))
    if not node["allowzero"]:
        dims = [walk.method("size", x, axis) if isinstance(n, int) and n == 0 else n for axis, n in enumerate(dims)]
    return walk.method("reshape", x, dims)


@op("Flatten")
def _flatten(walk: Walk, node: NodeView) -> Any:
    x, axis = node.required(0), node["axis"]
    if axis == 1 and x.shape is not None and len(x.shape) > 1:
        return walk.call(torch.flatten, walk.value(x), 1)
    return walk.call(shapes.flatten, walk.value(x), axis)


@op("Transpose")
def _transpose(walk: Walk, node: NodeView) -> Any:
    x = node.required(0)
    perm = node.get("perm") or list(reversed(range(walk.rank(x))))
    return walk.method("permute", walk.value(x), *perm) if perm else walk.value(x)


@op("Squeeze")
def _squeeze(walk: Walk, node: NodeView) -> Any:
    x = walk.value(node.required(0))
    if node.input(1) is None:
        return walk.method("squeeze", x)
    axes = walk.ints(node.input(1))
    if isinstance(axes, list) and len(axes) == 1:
        return walk.method("squeeze", x, axes[0])
    return walk.call(shapes.squeeze, x, axes)


@op("Unsqueeze")
def _unsqueeze(walk: Walk, node: NodeView) -> Any:
    x, axes = walk.value(node.required(0)), walk.ints(node.required(1))
    if isinstance(axes, list) and len(axes) == 1:
        return walk.method("unsqueeze", x, axes[0])
    return walk.call(shapes.unsqueeze, x, axes)


@op("Concat")
def _concat(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.cat, walk.inputs(node), node["axis"])


@op("Split")
def _split(walk: Walk, node: NodeView) -> Any:
    x, axis, count = walk.value(node.required(0)), node["axis"], len(node.outputs)
    if node.input(1) is None:
        parts = walk.call(shapes.split_evenly, x, count, axis)
    else:
        parts = walk.call(torch.split, x, walk.ints(node.input(1)), axis)
    return [parts[index] for index in range(count)]


@op("Slice")
def _slice(walk: Walk, node: NodeView) -> Any:
    x, starts, ends = walk.value(node.required(0)), walk.ints(node.required(1)), walk.ints(node.required(2))
    axes = None if node.input(3) is None else walk.ints(node.input(3))
    steps = None if node.input(4) is None else walk.ints(node.input(4))
    index = _index(node, starts, ends, axes, steps)
    return walk.call(shapes.slice_, x, starts, ends, axes, steps) if index is None else walk.call(getitem, x, index)


def _index(node: NodeView, starts: Any, ends: Any, axes: Any, steps: Any) -> tuple[slice, ...] | None:
    """Return what to write between brackets, or None where torch has no such slice (a negative step)."""
    if not isinstance(starts, list) or not isinstance(ends, list):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    known = isinstance(axes, list) and isinstance(steps, list) and all(isinstance(n, int) for n in axes + steps)
    if not known or min(steps, default=1) < 1:
        return None
    rank = None if node.required(0).shape is None else len(node.required(0).shape)
    if min(axes, default=0) < 0 and rank is None:
        return None
    places = [axis if axis >= 0 else axis + rank for axis in axes]
    parts = {
        axis: slice(*(None if trivial else n for n, trivial in _trivial(start, end, step)))
        for axis, start, end, step in zip(places, starts, ends, steps, strict=True)
    }
    return tuple(parts.get(axis, slice(None)) for axis in range(max(places, default=-1) + 1))


def _trivial(start: Any, end: Any, step: int) -> list[tuple[Any, bool]]:
    """Return the parts of a slice, each with whether it says nothing: from 0, to beyond any size, step 1."""
    beyond = isinstance(end, int) and end >= 2**31 - 1
    return [(start, isinstance(start, int) and start == 0), (end, beyond), (step, step == 1)]


@op("Expand")
def _expand(walk: Walk, node: NodeView) -> Any:
    return walk.call(shapes.expand, walk.value(node.required(0)), walk.ints(node.required(1)))


@op("Tile")
def _tile(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.tile, walk.value(node.required(0)), walk.ints(node.required(1)))


@op("Pad")
def _pad(walk: Walk, node: NodeView) -> Any:
    if is_taken_over(walk, node):
        return None
    x = walk.value(node.required(0))
    pads = walk.ints(node.required(1))
    axes = None if node.input(3) is None else walk.ints(node.input(3))
    if node["mode"] == "constant":
        fill = 0 if node.input(2) is None else walk.item(node.input(2))
        return walk.call(shapes.pad, x, pads, fill, axes)
    if node["mode"] not in _PAD_MODES:
        raise walk.unsupported(f"mode {node['mode']!r}")
    return walk.call(shapes.pad_from_edge, x, pads, node["mode"], axes)


@op("DepthToSpace")
def _depth_to_space(walk: Walk, node: NodeView) -> Any:
    column_first = node["mode"] == "CRD"
    if column_first:
        return walk.call(F.pixel_shuffle, walk.value(node.required(0)), node["blocksize"])
    return walk.call(shapes.depth_to_space, walk.value(node.required(0)), node["blocksize"])


@op("SpaceToDepth")
def _space_to_depth(walk: Walk, node: NodeView) -> Any:
    function = F.pixel_unshuffle if node.get("mode") == "CRD" else shapes.space_to_depth
    return walk.call(function, walk.value(node.required(0)), node["blocksize"])


@op("EyeLike")
def _eye_like(walk: Walk, node: NodeView) -> Any:
    dtype = torch_dtype(ir.DataType(node["dtype"])) if node.get("dtype") else walk.dtype(node.required(0))
    return walk.call(shapes.eye_like, walk.value(node.required(0)), node["k"], dtype)


@op("Trilu")
def _trilu(walk: Walk, node: NodeView) -> Any:
    k = 0 if node.input(1) is None else walk.item(node.input(1))
    return walk.call(torch.triu if node["upper"] else torch.tril, walk.value(node.required(0)), k)


@op("Range")
def _range(walk: Walk, node: NodeView) -> Any:
    start, limit, delta = (walk.item(value) for value in node.inputs)
    dtype = walk.dtype(node.outputs[0])
    return walk.call(torch.arange, start, limit, delta, dtype=dtype, device=walk.shared.device)


@op("CenterCropPad")
def _center_crop_pad(walk: Walk, node: NodeView) -> Any:
    axes = node.get("axes")
    return walk.call(shapes.center_crop_pad, walk.value(node.required(0)), walk.ints(node.required(1)), axes)


@op("ReverseSequence")
def _reverse_sequence(walk: Walk, node: NodeView) -> Any:
    axes = node["time_axis"], node["batch_axis"]
    return walk.call(shapes.reverse_sequence, walk.value(node.required(0)), walk.value(node.required(1)), *axes)
