"""Darknet's sections that join, cut, scale or rearrange what others yield."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.formats.darknet.layer import Layer, NotExpressible
from portnet.formats.writer import sizes_of

__all__ = ["crop", "reorg", "route", "sam", "scale_channels", "shortcut", "upsample"]


def route(layer: Layer) -> ir.Value:
    """The outputs of other sections, or part ``group_id`` of ``groups`` of each, joined along the channels."""
    groups, part = layer.positive("groups", 1), layer.section.integer("group_id", 0)
    found = [layer.before(number) for number in layer.section.integers("layers")]
    if not found or not 0 <= part < groups or len({sizes_of(x)[2:] for x in found}) > 1:
        raise NotExpressible(f"part {part} of {groups} of {len(found)} layers of several sizes")
    name = layer.label("route")
    if groups > 1:
        found = [_part(layer, x, groups, part, f"{name}/part{place}") for place, x in enumerate(found)]
    return found[0] if len(found) == 1 else layer.graph.node("Concat", found, name, axis=1)


def _part(layer: Layer, x: ir.Value, groups: int, part: int, name: str) -> ir.Value:
    channels = int(sizes_of(x)[1] or 0)
    if channels % groups:
        raise NotExpressible(f"{groups} groups of {channels} channels")
    width = channels // groups
    bounds = [
        layer.graph.ints([n], f"{name}/{what}")
        for n, what in ((part * width, "start"), (part * width + width, "end"), (1, "axis"))
    ]
    return layer.graph.node("Slice", [x, *bounds], name)


def shortcut(layer: Layer) -> ir.Value:
    """The sum of what it reads and of other sections' outputs; and an activation."""
    result = layer.x
    others = [layer.before(number) for number in layer.section.integers("from")]
    if not others:
        raise NotExpressible("of nothing")
    if layer.section.number("alpha", 1) != 1 or layer.section.number("beta", 1) != 1:
        raise NotExpressible("alpha or beta other than 1")
    name = layer.label("shortcut")
    for place, x in enumerate(others, start=1):
        label = name if place == len(others) else f"{name}/partial{place}"
        result = _sum(layer, result, _fitted(layer, x, f"{name}/from{place}"), label)
    return layer.activated(result)


def _sum(layer: Layer, x: ir.Value, other: ir.Value, name: str) -> ir.Value:
    """Add to as many channels as the other has."""
    channels, shared = (int(sizes_of(value)[1] or 0) for value in (x, other))
    if channels == shared:
        return layer.graph.node("Add", [x, other], name)
    axis, bounds = layer.graph.ints([1], f"{name}/axis"), [0, shared, channels]
    cuts = [layer.graph.ints([n], f"{name}/at{n}") for n in bounds]
    first, rest = (layer.graph.node("Slice", [x, *cuts[at : at + 2], axis], f"{name}/part{at}") for at in (0, 1))
    return layer.graph.node("Concat", [layer.graph.node("Add", [first, other], f"{name}/sum"), rest], name, axis=1)


def _fitted(layer: Layer, x: ir.Value, name: str) -> ir.Value:
    """Return ``x`` with every so many pixels and at most as many channels as the section reads (blas.c)."""
    wanted, got = sizes_of(layer.x), sizes_of(x)
    if got == wanted:
        return x
    (channels, height, width), (own, *spatial) = layer.image(), [int(n or 0) for n in got[1:]]
    step = spatial[0] // height if len(spatial) == 2 else 0
    if step < 1 or [n // step for n in spatial] != [height, width]:
        raise NotExpressible(f"of {wanted} and {got}")
    ends = [min(channels, own), (height - 1) * step + 1, (width - 1) * step + 1]
    rows = (("starts", [0, 0, 0]), ("ends", ends), ("axes", [1, 2, 3]), ("steps", [1, step, step]))
    bounds = [layer.graph.ints(row, f"{name}/{what}") for what, row in rows]
    return layer.graph.node("Slice", [x, *bounds], f"{name}/slice")


def upsample(layer: Layer) -> ir.Value:
    """Each pixel ``stride`` times."""
    layer.image()
    stride, name = layer.positive("stride", 2), layer.label("upsample")
    if layer.section.number("scale", 1) != 1:
        raise NotExpressible("a scale other than 1")
    scales = layer.graph.constant([1, 1, stride, stride], f"{name}/scales", np.float32)
    return layer.graph.node(
        "Resize",
        [layer.x, None, scales],
        name,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def reorg(layer: Layer) -> ir.Value:
    """Pixels to channels, in Darknet's order: reorg_cpu of blas.c, which reads its input as (c / s², h · s, w · s).

    With ``extra``, all features and as many zeros behind them.
    """
    channels, height, width = layer.image()
    s, name, extra = layer.positive("stride", 1), layer.label("reorg"), layer.section.integer("extra", 0)
    if 0 < extra <= 1 << 20:
        pads, axis = layer.graph.ints([0, extra], f"{name}/pads"), layer.graph.ints([1], f"{name}/axis")
        return layer.graph.node("Pad", [layer.flat(), pads, layer.number(0, f"{name}/zero"), axis], name)
    if (
        channels % (s * s)
        or height % s
        or width % s
        or any(layer.section.integer(n, 0) for n in ("reverse", "flatten"))
    ):
        raise NotExpressible(f"of {channels}×{height}×{width} by {s}")
    depth = channels // (s * s)
    blocks = layer.graph.ints([0, depth, height, s, width, s], f"{name}/blocks")
    split = layer.graph.node("Reshape", [layer.x, blocks], f"{name}/split")
    moved = layer.graph.node("Transpose", [split], f"{name}/moved", perm=[0, 3, 5, 1, 2, 4])
    sizes = layer.graph.ints([0, channels * s * s, height // s, width // s], f"{name}/sizes")
    return layer.graph.node("Reshape", [moved, sizes], name)


def crop(layer: Layer) -> ir.Value:
    """The centre, and from 0..1 to −1..1 unless ``noadjust`` is set (crop_layer.c); the rest is for training."""
    _, *spatial = layer.image()
    layer.section.asked.update(("flip", "angle", "saturation", "exposure", "shift"))
    name, sizes = layer.label("crop"), [layer.positive(f"crop_{axis}", 1) for axis in ("height", "width")]
    starts = [(whole - size) // 2 for whole, size in zip(spatial, sizes, strict=True)]
    if min(starts) < 0:
        raise NotExpressible(f"of {spatial} pixels to {sizes}")
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    bounds = [layer.graph.ints(row, f"{name}/{what}") for row, what in ((starts, "starts"), (ends, "ends"))]
    is_plain = layer.section.integer("noadjust", 0) != 0
    axes = layer.graph.ints([2, 3], f"{name}/axes")
    x = layer.graph.node("Slice", [layer.x, *bounds, axes], name if is_plain else f"{name}/centre")
    if is_plain:
        return x
    doubled = layer.graph.node("Mul", [x, layer.number(2, f"{name}/two")], f"{name}/doubled")
    return layer.graph.node("Sub", [doubled, layer.number(1, f"{name}/one")], name)


def scale_channels(layer: Layer) -> ir.Value:
    """What another section yields, times one number a channel (squeeze and excitation) or a pixel."""
    [number] = layer.section.integers("from") or [0]
    other = layer.before(number)
    (channels, height, width), (whole, *spatial) = layer.image(), [int(n or 0) for n in sizes_of(other)[1:]]
    wanted = (1, *spatial) if layer.section.integer("scale_wh", 0) else (whole, 1, 1)
    if len(spatial) != 2 or (channels, height, width) != wanted:
        raise NotExpressible(f"of {channels}×{height}×{width} and {sizes_of(other)}")
    return layer.activated(layer.graph.node("Mul", [other, layer.x], layer.label("scale_channels")))


def sam(layer: Layer) -> ir.Value:
    """What another section yields, times what it reads."""
    [number] = layer.section.integers("from") or [0]
    other = layer.before(number)
    if sizes_of(other) != sizes_of(layer.x):
        raise NotExpressible(f"of {sizes_of(layer.x)} and {sizes_of(other)}")
    return layer.activated(layer.graph.node("Mul", [other, layer.x], layer.label("sam")))
