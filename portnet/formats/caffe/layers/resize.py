"""Layers of forks that make images larger: Interp of DeepLab, Upsample."""

from __future__ import annotations

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.caffe.text import Message

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
    return layer.node(
        "Resize",
        [layer.x, None, None, layer.ints(sizes, "sizes")],
        mode="linear",
        coordinate_transformation_mode="align_corners",
        axes=[2, 3],
    )


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
    """Repeat each pixel ``scale`` times; SegNet's, which puts pixels back to where a pooling found them, is refused."""
    scale = layer.options("upsample_param").integer("scale", 2)
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
