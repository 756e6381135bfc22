"""Layers of forks that make images larger: Interp of DeepLab, Upsample."""

from __future__ import annotations

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.caffe.text import Message
from portnet.formats.writer import sizes_of

MAX_SIZE = 1 << 16


@caffe("Interp")
def interp(layer: Layer) -> ir.Value:
    """Bilinear, corners upon corners, to a size or by a factor."""
    options = layer.options("interp_param")
    if len(layer.sizes) != 4 or options.integer("pad_beg", 0) or options.integer("pad_end", 0):
        raise NotExpressible("with pad_beg or pad_end")
    sizes = [_size(options, what, layer.size(axis)) for what, axis in (("height", 2), ("width", 3))]
    if not all(0 < size <= MAX_SIZE for size in sizes):
        raise NotExpressible(f"to {sizes}")
    y = layer.node(
        "Resize",
        [layer.x, None, None, layer.ints(sizes, "sizes")],
        mode="linear",
        coordinate_transformation_mode="align_corners",
        axes=[2, 3],
    )
    # the standard's inference forgets the batch
    assert layer.x.shape is not None
    y.shape = ir.Shape([*layer.x.shape[:2], *sizes])
    return y


def _size(options: Message, what: str, size: int) -> int:
    """Return the new size, as InterpLayer::Reshape of DeepLab's Caffe computes it."""
    wanted = options.integer(what, 0)
    shrink, zoom = options.integer("shrink_factor", 1), options.integer("zoom_factor", 1)
    if wanted:
        return wanted
    if shrink < 1 or zoom < 1:
        raise NotExpressible(f"by {zoom}/{shrink}")
    shrunk = (size - 1) // shrink + 1
    return shrunk + (shrunk - 1) * (zoom - 1)


@caffe("Upsample")
def upsample(layer: Layer) -> ir.Value:
    """Repeat each pixel ``scale`` times; or put pixels to where a pooling, whose second top it reads, found them."""
    options = layer.options("upsample_param")
    scale = options.integer("scale", 2)
    if len(layer.bottoms) == 2 and len(layer.sizes) == 4:
        return _unpooled(layer, _unpooled_sizes(layer, options, scale))
    if len(layer.bottoms) != 1 or not 0 < scale <= 64 or len(layer.sizes) != 4:
        raise NotExpressible(f"of {len(layer.bottoms)} tensors by {scale}")
    factors = layer.graph.constant([1, 1, scale, scale], f"{layer.name}/scales", "float32")
    return layer.node(
        "Resize",
        [layer.x, None, factors],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _unpooled_sizes(layer: Layer, options: Message, scale: int) -> list[int]:
    """Return height and width, as SegNet's upsample_layer.cpp computes them."""
    sizes = [options.integer("upsample_h", 0), options.integer("upsample_w", 0)]
    for place, axis, pad in ((0, 2, "pad_out_h"), (1, 3, "pad_out_w")):
        size = layer.size(axis) * options.integer("scale_h" if place == 0 else "scale_w", scale)
        sizes[place] = sizes[place] or size - int(options.flag(pad, False))
    return sizes


def _unpooled(layer: Layer, sizes: list[int]) -> ir.Value:
    pool = layer.bottoms[1].producer()
    source = None if pool is None or pool.op_type != "MaxPool" else pool.inputs[0]
    if source is None or layer.bottoms[1].index() != 1:
        raise NotExpressible("with a mask that no MAX pooling made")
    read = sizes_of(source)
    if list(read[2:]) != sizes or read[1] != layer.size(1):
        raise NotExpressible(f"to {sizes} of what a pooling found in {read}")
    assert pool is not None
    kernel, stride = (list(pool.attributes[key].as_ints()) for key in ("kernel_shape", "strides"))
    if [(layer.size(a + 2) - 1) * stride[a] + kernel[a] for a in (0, 1)] == sizes:
        return layer.node("MaxUnpool", [layer.x, layer.bottoms[1]], kernel_shape=kernel, strides=stride)
    y = _scattered(layer, source)
    y.shape, y.type = source.shape, source.type
    return y


def _scattered(layer: Layer, source: ir.Value) -> ir.Value:
    """Put pixels back where windows do not fill the source exactly, which MaxUnpool cannot tell."""
    flat = layer.ints([-1], "flat")
    values = layer.node("Reshape", [layer.x, flat], "values")
    places = layer.node("Reshape", [layer.bottoms[1], flat], "places")
    count = layer.node("Reshape", [layer.node("Size", [source], "size"), flat], "count")
    zeros = layer.node("ConstantOfShape", [count], "zeros")
    filled = layer.node("ScatterElements", [zeros, places, values], "filled", axis=0)
    return layer.node("Reshape", [filled, layer.node("Shape", [source], "shape")])
