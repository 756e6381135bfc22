"""Sampling of maps at computed places: GridSample, RoiAlign, DeformConv; and Col2Im, MaxUnpool, NonMaxSuppression."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import BACKEND, ops
from portnet_keras.operation import operation
from portnet_keras.ops.broadcast import add
from portnet_keras.ops.registry import op

__all__: list[str] = []

CUBIC = -0.75


def _pick(x: Any, places: list[Any]) -> Any:
    """Take cells of x (N, S..., C) at integer places, each (N, P); return (N, P, C). Places lie inside."""
    sizes = ops.shape(x)[1:-1]
    flat = places[0]
    for place, size in zip(places[1:], sizes[1:], strict=True):
        flat = ops.add(ops.multiply(flat, size), place)
    cells = ops.reshape(x, (ops.shape(x)[0], -1, ops.shape(x)[-1]))
    return ops.take_along_axis(cells, ops.expand_dims(flat, -1), axis=1)


def _taps(place: Any, mode: str) -> list[tuple[Any, Any]]:
    """Return (integer place, weight) of each cell that one coordinate reads along one axis."""
    base = ops.floor(place)
    if mode == "nearest":
        return [(ops.round(place), ops.ones_like(place))]
    part = ops.subtract(place, base)
    if mode == "linear":
        return [(base, 1 - part), (base + 1, part)]
    distances = [part + 1, part, 1 - part, 2 - part]
    return [(base + i - 1, _cubic(d, 1 <= i <= 2)) for i, d in enumerate(distances)]


def _cubic(d: Any, near: bool) -> Any:
    a = CUBIC
    if near:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((d - 5) * d + 8) * d * a - 4 * a


def _reflected(place: Any, low: float, high: float) -> Any:
    span = high - low
    if span <= 0:
        return ops.zeros_like(place)
    turn = ops.mod(ops.subtract(place, low), 2 * span)
    return ops.add(ops.minimum(turn, ops.subtract(2 * span, turn)), low)


def _interpolated(x: Any, coordinates: list[Any], mode: str, padding: str, borders: list[tuple[float, float]]) -> Any:
    """Sample x (N, S..., C) at coordinates, each (N, P), in cells; return (N, P, C)."""
    sizes, total = x.shape[1:-1], 0.0
    for taps in itertools.product(*(_taps(place, mode) for place in coordinates)):
        places, weight = [], 1.0
        for (place, part), size, (low, high) in zip(taps, sizes, borders, strict=True):
            if padding == "reflection":
                place = _reflected(place, low, high)
            inside = ops.logical_and(place >= 0, place <= size - 1)
            weight = weight * (ops.where(inside, part, ops.zeros_like(part)) if padding == "zeros" else part)
            places.append(ops.cast(ops.clip(place, 0, size - 1), "int32"))
        total = total + _pick(x, places) * ops.expand_dims(weight, -1)
    return total


@operation
def grid_sample(x: Any, grid: Any, *, mode: str, padding: str, align: bool) -> Any:
    """Sample x (N, C, S...) at grid (N, O..., axes) of coordinates in -1..1, last axis first."""
    rank, sizes = len(x.shape) - 2, x.shape[2:]
    points = ops.reshape(grid, (ops.shape(grid)[0], -1, rank))
    borders = [(0.0, n - 1.0) if align else (-0.5, n - 0.5) for n in sizes]
    coordinates = []
    for i, (size, (low, high)) in enumerate(zip(sizes, borders, strict=True)):
        place = points[..., rank - 1 - i]
        place = (place + 1) / 2 * (size - 1) if align else ((place + 1) * size - 1) / 2
        place = ops.round(place) if mode == "nearest" else place
        if padding == "border" and mode != "cubic":  # onnxruntime keeps a cubic kernel's place, and moves its cells
            place = ops.clip(place, 0, size - 1)
        elif padding == "reflection":
            place = ops.where(ops.logical_or(place < low, place > high), _reflected(place, low, high), place)
        coordinates.append(place)
    moved = ops.transpose(x, (0, *range(2, rank + 2), 1))
    sampled = _interpolated(moved, coordinates, mode, padding, borders)
    return ops.reshape(ops.transpose(sampled, (0, 2, 1)), (*ops.shape(x)[:2], *ops.shape(grid)[1:-1]))


@op("GridSample")
def grid_sample_(walk: Any, node: NodeView) -> Any:
    """Sample a map at a grid of places."""
    x, grid = walk.plain(node.required(0)), walk.plain(node.required(1))
    if None in x.shape[2:]:
        raise walk.unsupported("free sizes")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node["mode"], node["mode"])
    return walk.apply(
        grid_sample, node, x, grid, mode=mode, padding=node["padding_mode"], align=bool(node["align_corners"])
    )


@operation
def roi_align(x: Any, rois: Any, batch: Any, *, size: Any, ratio: int, scale: float, shift: float, reduce: str) -> Any:
    """Pool boxes of x (N, C, H, W), ``ratio`` samples a bin and axis."""
    height, width = x.shape[2:]
    boxes = rois * scale - shift
    starts, spans = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    spans = spans if shift else ops.maximum(spans, 1.0)
    offsets = [(np.arange(n * ratio) + 0.5) / (n * ratio) for n in size]
    dtype = str(x.dtype.name if hasattr(x.dtype, "name") else x.dtype)
    rows, columns = (
        ops.add(starts[:, i : i + 1], ops.multiply(spans[:, i : i + 1], o.astype(dtype)[None]))
        for i, o in ((1, offsets[0]), (0, offsets[1]))
    )
    count = ops.shape(rois)[0]
    grid = (count, len(offsets[0]), len(offsets[1]))
    y = ops.reshape(ops.broadcast_to(ops.expand_dims(rows, 2), grid), (count, -1))
    z = ops.reshape(ops.broadcast_to(ops.expand_dims(columns, 1), grid), (count, -1))
    inside = ops.logical_and(ops.logical_and(y >= -1, y <= height), ops.logical_and(z >= -1, z <= width))
    cells = ops.take(ops.transpose(x, (0, 2, 3, 1)), batch, axis=0)
    places = [ops.clip(y, 0, height - 1), ops.clip(z, 0, width - 1)]
    if reduce == "max":
        sampled = _largest_tap(cells, places)
    else:
        sampled = _interpolated(cells, places, "linear", "border", [(0, 0), (0, 0)])
    sampled = ops.where(ops.expand_dims(inside, -1), sampled, ops.zeros_like(sampled))
    bins = ops.reshape(sampled, (count, size[0], ratio, size[1], ratio, -1))
    pooled = ops.max(bins, axis=(2, 4)) if reduce == "max" else ops.mean(bins, axis=(2, 4))
    return ops.transpose(pooled, (0, 3, 1, 2))


def _largest_tap(x: Any, coordinates: list[Any]) -> Any:
    """Return the largest of the four weighted neighbours, as the standard's max mode has it."""
    sizes, best = x.shape[1:-1], None
    for taps in itertools.product(*(_taps(place, "linear") for place in coordinates)):
        places = [ops.cast(ops.clip(p, 0, n - 1), "int32") for (p, _), n in zip(taps, sizes, strict=True)]
        value = _pick(x, places) * ops.expand_dims(taps[0][1] * taps[1][1], -1)
        best = value if best is None else ops.maximum(best, value)
    return best


@op("RoiAlign")
def roi_align_(walk: Any, node: NodeView) -> Any:
    """Pool regions of a map."""
    x, rois, batch = (walk.plain(node.required(i)) for i in range(3))
    size, ratio = (node["output_height"], node["output_width"]), node["sampling_ratio"]
    if None in x.shape[2:]:
        raise walk.unsupported("free sizes")
    shift = 0.5 if node["coordinate_transformation_mode"] == "half_pixel" else 0.0
    attributes = {"size": list(size), "scale": node["spatial_scale"], "shift": shift, "reduce": node["mode"]}
    if ratio:
        return walk.apply(roi_align, node, x, rois, batch, ratio=ratio, **attributes)
    # without a ratio each box has its own count of samples, so the boxes must be known
    boxes = walk.host(node.input(1)) * node["spatial_scale"]
    parts = []
    for i, box in enumerate(boxes):
        ratios = {math.ceil((box[3] - box[1]) / size[0]), math.ceil((box[2] - box[0]) / size[1])}
        if len(ratios) > 1:
            raise walk.unsupported("sampling_ratio=0 with another count of samples in x than in y")
        parts.append(
            walk.apply(roi_align, node, x, rois[i : i + 1], batch[i : i + 1], ratio=max(*ratios, 1), **attributes)
        )
    return ops.concatenate(parts)


@op("Col2Im")
def col2im(walk: Any, node: NodeView) -> Any:
    """Add up blocks where they overlap."""
    x = walk.plain(node.required(0))
    image, block = walk.host_ints(node.input(1)), walk.host_ints(node.input(2))
    rank = len(image)
    dilations, strides = node.get("dilations") or [1] * rank, node.get("strides") or [1] * rank
    pads = node.get("pads") or [0] * (2 * rank)
    axes = list(zip(image, block, dilations, strides, pads[:rank], pads[rank:], strict=True))
    counts = [(n + a + b - d * (k - 1) - 1) // s + 1 for n, k, d, s, a, b in axes]
    # place of every (tap, block) along each axis; what falls into the padding goes to one cell more
    grids = np.meshgrid(*(np.arange(k) for k in block), *(np.arange(c) for c in counts), indexing="ij")
    places = [grids[i] * d + grids[rank + i] * s - a for i, (_, _, d, s, a, _) in enumerate(axes)]
    inside = np.logical_and.reduce([(p >= 0) & (p < n) for p, n in zip(places, image, strict=True)])
    cells = math.prod(image)
    clipped = [np.clip(p, 0, n - 1) for p, n in zip(places, image, strict=True)]
    flat = np.where(inside, np.ravel_multi_index(clipped, image), cells).reshape(-1)
    batch, depth = x.shape[0], x.shape[1] // math.prod(block)
    taps = x.shape[1] // depth * x.shape[2]
    columns = ops.transpose(ops.reshape(x, (-1, taps)))
    summed = ops.segment_sum(columns, flat.astype(np.int32), num_segments=cells + 1)[(slice(0, cells), slice(None))]
    return ops.reshape(ops.transpose(summed), (-1 if batch is None else batch, depth, *image))


@operation
def unpool(x: Any, indices: Any, *, shape: Any) -> Any:
    """Write entries at flat places of a tensor of zeros."""
    flat = ops.reshape(indices, (-1, 1))
    return ops.reshape(ops.scatter(flat, ops.reshape(x, (-1,)), (math.prod(shape),)), shape)


@op("MaxUnpool")
def max_unpool(walk: Any, node: NodeView) -> Any:
    """Put pooled entries back where they were."""
    x, indices = walk.plain(node.required(0)), walk.plain(node.required(1))
    kernel = node["kernel_shape"]
    rank = len(kernel)
    strides, pads = node.get("strides") or [1] * rank, node.get("pads") or [0] * (2 * rank)
    if None in x.shape:
        raise walk.unsupported("free sizes")
    sizes = [(n - 1) * strides[i] + kernel[i] - pads[i] - pads[i + rank] for i, n in enumerate(x.shape[2:])]
    shape = [*x.shape[:2], *sizes]
    y = walk.apply(unpool, node, x, indices, shape=shape)
    if node.input(2) is None:
        return y
    # the places count cells of the smaller map, which lies at the front of the wanted one
    return ops.pad(y, [(0, want - n) for want, n in zip(walk.host_ints(node.input(2)), shape, strict=True)])


@op("NonMaxSuppression")
def non_max_suppression(walk: Any, node: NodeView) -> Any:
    """Choose boxes by score, leaving out those that overlap a better one too much."""
    if BACKEND != "tensorflow":
        raise walk.unsupported(f"needs TensorFlow, and the backend is {BACKEND}")
    boxes, scores = walk.plain(node.required(0)), walk.plain(node.required(1))
    numbers = [None if node.input(i) is None else walk.host(node.input(i)).item() for i in (2, 3, 4)]
    limit, overlap, least = numbers
    if None in (scores.shape[0], scores.shape[1]):
        raise walk.unsupported("a free batch or count of classes")
    return walk.apply(
        choose_boxes,
        node,
        boxes,
        scores,
        limit=int(limit or 0),
        overlap=float(overlap or 0),
        least=-math.inf if least is None else float(least),
        centred=bool(node["center_point_box"]),
    )


@operation
def choose_boxes(boxes: Any, scores: Any, *, limit: int, overlap: float, least: float, centred: bool) -> Any:
    """Return rows (batch, class, box) of chosen boxes."""
    import tensorflow as tf

    if centred:
        x, y, w, h = tf.unstack(boxes, axis=-1)
        boxes = tf.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], axis=-1)
    rows = []
    for b, c in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        chosen = tf.image.non_max_suppression(boxes[b], scores[b, c], limit, overlap, least)
        chosen = tf.cast(chosen, tf.int64)
        rows.append(
            tf.stack([tf.fill(tf.shape(chosen), np.int64(b)), tf.fill(tf.shape(chosen), np.int64(c)), chosen], axis=1)
        )
    return tf.concat(rows, axis=0)


@op("DeformConv")
def deform_conv(walk: Any, node: NodeView) -> Any:
    """Convolution whose taps are moved by computed offsets, two spatial axes."""
    x, w, offset = (walk.plain(node.required(i)) for i in range(3))
    bias, mask = walk.optional_plain(node.input(3)), walk.optional_plain(node.input(4))
    if len(x.shape) != 4 or None in x.shape:
        raise walk.unsupported("free sizes, or not two spatial axes")
    y = walk.apply(
        deformed,
        node,
        x,
        w,
        offset,
        mask,
        strides=list(node.get("strides") or [1, 1]),
        dilations=list(node.get("dilations") or [1, 1]),
        pads=list(node.get("pads") or [0] * 4),
        groups=node["group"],
        offset_groups=node["offset_group"],
    )
    return y if bias is None else add(y, ops.reshape(bias, (-1, 1, 1)))


@operation
def deformed(
    x: Any, w: Any, offset: Any, mask: Any, *, strides: Any, dilations: Any, pads: Any, groups: int, offset_groups: int
) -> Any:
    """Sample x (N, C, H, W) at the moved taps and mix them by w (O, C / groups, kH, kW)."""
    batch, channels = x.shape[:2]
    outputs, _, rows, columns = w.shape
    height, width = offset.shape[2:]
    taps, cells = rows * columns, height * width
    offsets = ops.reshape(offset, (batch, offset_groups, rows, columns, 2, height, width))
    start = [
        (np.arange(n) * s - p)[None, :] + (np.arange(k) * d)[:, None]
        for n, s, p, k, d in zip((height, width), strides, pads[:2], (rows, columns), dilations, strict=True)
    ]
    # the tap's own place: (kH, kW, oH, oW) for each axis
    places = [start[0][:, None, :, None], start[1][None, :, None, :]]
    coordinates = [
        ops.reshape(offsets[:, :, :, :, i] + place.astype("float32"), (batch * offset_groups, taps * cells))
        for i, place in enumerate(places)
    ]
    per_group = channels // offset_groups
    split = ops.reshape(x, (batch * offset_groups, per_group, *x.shape[2:]))
    moved = ops.transpose(split, (0, 2, 3, 1))
    sampled = _interpolated(moved, coordinates, "linear", "zeros", [(0, 0), (0, 0)])
    sampled = ops.reshape(ops.transpose(sampled, (0, 2, 1)), (batch, offset_groups, per_group, taps, cells))
    if mask is not None:
        sampled = sampled * ops.reshape(mask, (batch, offset_groups, 1, taps, cells))
    grouped = ops.reshape(sampled, (batch, groups, channels // groups, taps, cells))
    kernel = ops.reshape(w, (groups, outputs // groups, channels // groups, taps))
    mixed = ops.einsum("ngctp,goct->ngop", grouped, kernel)
    return ops.reshape(mixed, (batch, outputs, height, width))
