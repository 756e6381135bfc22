"""Enlarging and shrinking."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op
from portnet.formats.mxnet.ops.convolution import fan_in

_MAX_SCALE = 1 << 10


@op("UpSampling")
def upsampling(layer: Layer) -> ir.Value:
    """Nearest repeats pixels; bilinear is a transposed convolution with a kernel of its own (``upsampling-inl.h``)."""
    get = layer.attributes
    scale, kind = get.integer("scale", least=1), get.text("sample_type")
    filters, mode = get.integer("num_filter", 0), get.text("multi_input_mode", "concat")
    if scale > _MAX_SCALE:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): scale got {scale}, expected at most {_MAX_SCALE}")
    if kind == "bilinear":
        return _bilinear(layer, scale, filters)
    if kind != "nearest":
        raise Refused(f"sample_type={kind}")
    values = layer.values()
    if len(values) == 1:
        return _nearest(layer, values[0], [scale, scale], None)
    height, width = (layer.size(values[0], axis) * scale for axis in (2, 3))
    parts = []
    for index, value in enumerate(values):
        own = [height // layer.size(value, 2), width // layer.size(value, 3)]
        parts.append(_nearest(layer, value, own, f"part{index}"))
    return layer.final("Sum", parts) if mode == "sum" else layer.final("Concat", parts, axis=1)


def _nearest(layer: Layer, x: ir.Value, scale: list[int], what: str | None) -> ir.Value:
    scales = layer.writer.constant([1, 1, *scale], f"{layer.name}/{what or 'scale'}s", np.float32)
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    inputs = [x, None, scales]
    return layer.final("Resize", inputs, **options) if what is None else layer.step("Resize", inputs, what, **options)


def _bilinear(layer: Layer, scale: int, filters: int) -> ir.Value:
    kernel, pad = 2 * scale - scale % 2, -(-(scale - 1) // 2)
    x = layer.value(0)
    channels = layer.size(x, 1)
    if filters not in (0, channels):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): num_filter {filters} of {channels} channels")
    weight = layer.parameter(1, (channels, 1, kernel, kernel), fan_in())
    return layer.final(
        "ConvTranspose",
        [x, weight],
        kernel_shape=[kernel, kernel],
        strides=[scale, scale],
        pads=[pad] * 4,
        group=channels,
    )


@op("_contrib_BilinearResize2D")
def bilinear_resize(layer: Layer) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    height, width = get.integer("height", 1, least=1), get.integer("width", 1, least=1)
    scales = [get.maybe_number("scale_height"), get.maybe_number("scale_width")]
    mode, corners = get.text("mode", "size"), get.flag("align_corners", True)
    if mode not in ("size", "like"):
        raise Refused(f"mode={mode}")
    if mode == "like":
        like = layer.value(1)
        target = [layer.size(like, 2), layer.size(like, 3)]
    else:
        own = [layer.size(x, 2), layer.size(x, 3)] if any(scales) else [0, 0]
        pairs = zip(scales, own, (height, width), strict=True)
        target = [int(size * scale) if scale else wanted for scale, size, wanted in pairs]
    if not all(0 < size <= 1 << 16 for size in target):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got a size of {target}")
    axes = layer.ints(target, "sizes")
    corner_mode = "align_corners" if corners else "half_pixel"
    return layer.final(
        "Resize",
        [x, None, None, axes],
        mode="linear",
        coordinate_transformation_mode=corner_mode,
        axes=[2, 3],
    )
