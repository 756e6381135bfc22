"""Layers that move numbers about: Concat, Slice, Split, Flatten, Reshape, Permute, Crop, Tile, ShuffleChannel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.writer import sizes_of


@caffe("Concat")
def concat(layer: Layer) -> ir.Value:
    """Join along ``axis``, by default the channels."""
    options = layer.options("concat_param")
    axis = layer.axis(options.integer("axis", options.integer("concat_dim", 1)))
    others = {tuple(n for a, n in enumerate(sizes_of(x)) if a != axis) for x in layer.bottoms}
    if len(others) > 1:
        raise NotExpressible(f"of {', '.join(str(sizes_of(x)) for x in layer.bottoms)} along axis {axis}")
    return layer.node("Concat", layer.bottoms, axis=axis)


@caffe("Slice")
def slices(layer: Layer) -> Sequence[ir.Value]:
    """Cut along ``axis`` at ``slice_point``, or into equal parts."""
    options = layer.options("slice_param")
    axis = layer.axis(options.integer("axis", options.integer("slice_dim", 1)))
    size, points = layer.size(axis), options.integers("slice_point")
    if not points:
        points = [size * part // layer.tops for part in range(1, layer.tops)] if size % layer.tops == 0 else []
    bounds = [0, *points, size]
    lengths = [end - begin for begin, end in itertools.pairwise(bounds)]
    if len(lengths) != layer.tops or min(lengths) < 1:
        raise NotExpressible(f"of {size} at {points} into {layer.tops}")
    if layer.tops == 1:
        return [layer.node("Identity", [layer.x])]
    return layer.graph.nodes("Split", [layer.x, layer.ints(lengths, "split")], layer.name, count=layer.tops, axis=axis)


@caffe("Split")
def split(layer: Layer) -> Sequence[ir.Value]:
    """The same tensor for each top."""
    return [layer.x] * layer.tops


@caffe("Flatten")
def flatten(layer: Layer) -> ir.Value:
    """Join the axes from ``axis`` to ``end_axis``."""
    options = layer.options("flatten_param")
    axis, end = layer.axis(options.integer("axis", 1)), layer.axis(options.integer("end_axis", -1))
    sizes = layer.sizes
    if axis == 1 and end == len(sizes) - 1:
        return layer.node("Flatten", [layer.x], axis=1)
    if axis == 0 or end < axis:
        raise NotExpressible(f"of axes {axis} to {end}")
    joined = math.prod(layer.size(a) for a in range(axis, end + 1))
    return layer.reshape(layer.x, [*sizes[:axis], joined, *sizes[end + 1 :]])


@caffe("Reshape")
def reshape(layer: Layer) -> ir.Value:
    """New sizes for ``num_axes`` axes from ``axis`` on: 0 copies a size, −1 is what remains."""
    options = layer.options("reshape_param")
    dims = options.message("shape").integers("dim")
    sizes, count, first = layer.sizes, options.integer("num_axes", -1), options.integer("axis", 0)
    rank = len(sizes)
    axis = first if first >= 0 else first + rank + 1
    end = rank if count == -1 else axis + count
    if not 0 <= axis <= end <= rank or dims.count(-1) > 1 or any(n < -1 for n in dims) or len(dims) > 16:
        raise NotExpressible(f"of {sizes} to {dims} from axis {axis} to {end}")
    return layer.reshape(layer.x, _resolved(layer, list(sizes), dims, axis, end))


def _resolved(layer: Layer, sizes: list[int | None], dims: list[int], axis: int, end: int) -> Sequence[int | None]:
    """Return the new shape, with None for the batch at its front."""
    if any(n == 0 and axis + place >= len(sizes) for place, n in enumerate(dims)):
        raise NotExpressible(f"that copies a size which {tuple(sizes)} lacks")
    new = [sizes[axis + place] if n == 0 else n for place, n in enumerate(dims)]
    whole = [*sizes[:axis], *new, *sizes[end:]]
    if None in sizes[1:] or not whole:
        raise NotExpressible(f"of {tuple(sizes)}")
    volume = math.prod(n for n in sizes[1:] if n is not None)
    if whole[0] is not None and sizes[0] is None:
        rest = [n for n in whole[1:] if n is not None]
        keeps_batch = -1 not in rest and math.prod(rest) == volume if whole[0] == -1 else whole[0] == layer.batch
        if whole[0] == -1 and not keeps_batch:
            return whole
        if not keeps_batch:
            raise NotExpressible(f"that fixes the batch at {whole[0]}")
        whole[0] = None
    if -1 in whole[1:]:
        known = math.prod(n for n in whole[1:] if n is not None and n != -1)
        whole = [volume // known if n == -1 and known and volume % known == 0 else n for n in whole]
    return whole


@caffe("Permute")
def permute(layer: Layer) -> ir.Value:
    """Reorder the axes; those not named follow in their order (SSD's layer)."""
    order = layer.options("permute_param").integers("order")
    rank = len(layer.sizes)
    order += [axis for axis in range(rank) if axis not in order]
    if sorted(order) != list(range(rank)):
        raise NotExpressible(f"order {order} of {rank} axes")
    return layer.node("Transpose", [layer.x], perm=order)


@caffe("Crop")
def crop(layer: Layer) -> ir.Value:
    """Cut the first tensor to the second's sizes from ``axis`` on, at ``offset``."""
    options = layer.options("crop_param")
    offsets, axis = options.integers("offset"), layer.axis(options.integer("axis", 2))
    if len(layer.bottoms) != 2 or axis == 0:
        raise NotExpressible(f"of {len(layer.bottoms)} tensors from axis {axis} on")
    sizes, wanted = layer.sizes[axis:], sizes_of(layer.bottoms[1])[axis:]
    offsets = (offsets or [0]) * (1 if len(offsets) > 1 else len(sizes))
    if len(offsets) != len(sizes) or len(wanted) != len(sizes):
        raise NotExpressible(f"at {offsets} of {sizes} to {wanted}")
    ends = [begin + (n or 0) for begin, n in zip(offsets, wanted, strict=True)]
    if any(b < 0 or e <= b or e > (n or 0) for b, e, n in zip(offsets, ends, sizes, strict=True)):
        raise NotExpressible(f"at {offsets} of {sizes} to {wanted}")
    axes = list(range(axis, axis + len(sizes)))
    bounds = [layer.ints(numbers, what) for numbers, what in ((offsets, "starts"), (ends, "ends"), (axes, "axes"))]
    return layer.node("Slice", [layer.x, *bounds])


@caffe("Tile")
def tile(layer: Layer) -> ir.Value:
    """Repeat ``tiles`` times along ``axis``."""
    options = layer.options("tile_param")
    axis, times = layer.axis(options.integer("axis", 1)), options.integer("tiles", 0)
    if axis == 0 or not 0 < times <= 1 << 20:
        raise NotExpressible(f"{times} times along axis {axis}")
    repeats = [times if a == axis else 1 for a in range(len(layer.sizes))]
    return layer.node("Tile", [layer.x, layer.ints(repeats, "repeats")])


@caffe("ShuffleChannel")
def shuffle(layer: Layer) -> ir.Value:
    """Deal the channels of ``group`` groups out in turn (ShuffleNet's layer)."""
    group, channels = layer.options("shuffle_channel_param").integer("group", 1), layer.size(1)
    if group < 1 or channels % group or len(layer.sizes) != 4:
        raise NotExpressible(f"of {channels} channels in {group} groups")
    batch, _, height, width = layer.sizes
    grouped = layer.reshape(layer.x, [batch, group, channels // group, layer.size(2), layer.size(3)], "grouped")
    dealt = layer.node("Transpose", [grouped], "dealt", perm=[0, 2, 1, 3, 4])
    return layer.reshape(dealt, [batch, channels, height, width])
