"""Parts of tensors, and padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op

# beyond any size, within int64
_END = 2**62
_MAX_PARTS = 4096


@op("SliceChannel", "split")
def slice_channel(layer: Layer) -> list[ir.Value]:
    get, x = layer.attributes, layer.value(0)
    axis, count = layer.axis(get.integer("axis", 1), layer.rank(x)), get.integer("num_outputs", least=1)
    squeezed, size = get.flag("squeeze_axis", False), layer.sizes(x)[axis]
    if count > _MAX_PARTS or (size is not None and size % count):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): {size} does not split into {count} parts")
    if size is None and count > 1:
        raise Refused(f"num_outputs={count} along an axis whose size is free")
    lengths = [None if size is None else size // count] * count
    return _split(layer, x, axis, lengths, squeezed)


@op("_split_v2")
def split_v2(layer: Layer) -> list[ir.Value]:
    """Cuts at ``indices``, the first of which is 0, or into equal ``sections``."""
    get, x = layer.attributes, layer.value(0)
    axis, sections = layer.axis(get.integer("axis", 1), layer.rank(x)), get.integer("sections", 0)
    indices, squeezed = get.integers("indices"), get.flag("squeeze_axis", False)
    size = layer.size(x, axis)
    if sections > 0:
        if sections > _MAX_PARTS or size % sections:
            raise ModelError(f"layer {layer.name!r} ({layer.op}): {size} does not split into {sections} parts")
        return _split(layer, x, axis, [size // sections] * sections, squeezed)
    ends = [*indices[1:], size]
    lengths = [end - start for start, end in zip(indices, ends, strict=True)]
    if not lengths or min(lengths) < 0 or sum(lengths) != size:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): indices {indices} do not cut {size}")
    return _split(layer, x, axis, list(lengths), squeezed)


def _split(layer: Layer, x: ir.Value, axis: int, lengths: Sequence[int | None], squeezed: bool) -> list[ir.Value]:
    if squeezed and any(length not in (1, None) for length in lengths):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): squeeze_axis of parts of {lengths[0]}")
    if len(lengths) == 1:
        axes = layer.ints([axis], "axes")
        return [layer.final("Squeeze", [x, axes]) if squeezed else layer.final("Identity", [x])]
    sizes = layer.ints([length or 0 for length in lengths], "sizes")
    name = f"{layer.name}/parts" if squeezed else layer.name
    parts = layer.writer.nodes("Split", [x, sizes], name, count=len(lengths), axis=axis)
    if not squeezed:
        return list(parts)
    axes = layer.ints([axis], "axes")
    names = [layer.name, *(f"{layer.name}.{i}" for i in range(1, len(lengths)))]
    return [layer.writer.node("Squeeze", [part, axes], each) for part, each in zip(parts, names, strict=True)]


@op("slice_axis")
def slice_axis(layer: Layer) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    axis = layer.axis(get.integer("axis"), layer.rank(x))
    return _slice(layer, x, [axis], [get.integer("begin", 0)], [get.maybe_integer("end")])


@op("slice", "crop")
def slice_(layer: Layer) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    begins, ends, steps = (get.maybe_integers(key) or () for key in ("begin", "end", "step"))
    count = len(begins)
    if len(ends) != count or len(steps) not in (0, count) or count > layer.rank(x):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): begin {begins} and end {ends} do not fit")
    steps_ = [1 if step is None else step for step in steps] or [1] * count
    if 0 in steps_:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got a step of 0")
    starts = [(_END if s < 0 else 0) if b is None else b for b, s in zip(begins, steps_, strict=True)]
    return _slice(layer, x, list(range(count)), starts, list(ends), steps_)


def _slice(
    layer: Layer,
    x: ir.Value,
    axes: Sequence[int],
    begins: Sequence[int],
    ends: Sequence[int | None],
    steps: Sequence[int] | None = None,
) -> ir.Value:
    steps = steps or [1] * len(axes)
    stops = [(-_END if step < 0 else _END) if end is None else end for end, step in zip(ends, steps, strict=True)]
    inputs = [layer.ints(begins, "starts"), layer.ints(stops, "ends"), layer.ints(axes, "axes")]
    if any(step != 1 for step in steps):
        inputs.append(layer.ints(steps, "steps"))
    return layer.final("Slice", [x, *inputs])


@op("slice_like")
def slice_like(layer: Layer) -> ir.Value:
    """Begins at 0 along ``axes`` and is as long as the other tensor."""
    x, like = layer.value(0), layer.value(1)
    given = layer.attributes.integers("axes") or tuple(range(layer.rank(like)))
    axes = [layer.axis(axis, layer.rank(x)) for axis in given]
    sizes, targets = layer.sizes(x), layer.sizes(like)
    if any(axis >= len(targets) for axis in axes):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): axes {given} of tensors of {len(sizes)}, {len(targets)}")
    # a free batch is the same batch
    cut = [axis for axis in axes if not (axis == 0 and sizes[0] is None and targets[0] is None)]
    if any(targets[axis] is None for axis in cut):
        raise Refused("a size that is free")
    return _slice(layer, x, cut, [0] * len(cut), [targets[axis] for axis in cut])


@op("Crop")
def crop(layer: Layer) -> ir.Value:
    """Cuts height and width to ``h_w``, or to those of a second input (``crop-inl.h``)."""
    get, x = layer.attributes, layer.value(0)
    offset, wanted = get.integers("offset", (0, 0), least=0), get.integers("h_w", (0, 0), least=0)
    center = get.flag("center_crop", False)
    if layer.count > 1:
        like = layer.value(1)
        wanted = (layer.size(like, 2), layer.size(like, 3))
    sizes = (layer.size(x, 2), layer.size(x, 3))
    if len(wanted) != 2 or len(offset) != 2:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): h_w {wanted} and offset {offset} are no pairs")
    starts = [(size - n) // 2 for size, n in zip(sizes, wanted, strict=True)] if center else list(offset)
    ends = [start + n for start, n in zip(starts, wanted, strict=True)]
    if any(not 0 < n <= size for n, size in zip(wanted, sizes, strict=True)) or any(
        end > size for end, size in zip(ends, sizes, strict=True)
    ):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): {wanted} at {offset} does not lie in {sizes}")
    return _slice(layer, x, [2, 3], starts, ends)


@op("Pad", "pad", "_npi_pad")
def pad(layer: Layer) -> ir.Value:
    """``pad_width`` is (before, after) for each axis."""
    get, x = layer.attributes, layer.value(0)
    widths, mode, fill = get.integers("pad_width", least=0), get.text("mode"), get.number("constant_value", 0.0)
    if len(widths) != 2 * layer.rank(x) or max(widths) > 1 << 20:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): pad_width {widths} of {layer.rank(x)} axes")
    if mode not in ("constant", "edge", "reflect"):
        raise Refused(f"mode={mode}")
    inputs = [x, layer.ints([*widths[::2], *widths[1::2]], "pads")]
    if mode == "constant":
        dtype = np.dtype(np.float32) if x.dtype is None else x.dtype.numpy()
        inputs.append(layer.writer.constant(fill, f"{layer.name}/fill", dtype))
    return layer.final("Pad", inputs, mode=mode)
