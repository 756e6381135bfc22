"""Tensors that depend on no input, or on its shape alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op

_MAX_ELEMENTS = 1 << 20


def _filled(fill: float | None) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        get = layer.attributes
        get.ignore("ctx")
        shape = get.integers("shape")
        number = get.number("value") if fill is None else fill
        if shape.count(0) == 1 and fill == 0:
            # the batch, which MXNet finds out from what reads it: states that cells start from, as one row for all
            shape = tuple(size or 1 for size in shape)
        if not shape or min(shape) <= 0:
            raise Refused(f"shape={shape}")
        if math.prod(shape) > _MAX_ELEMENTS:
            raise ModelError(f"layer {layer.name!r} ({layer.op}): got shape {shape}, expected at most {_MAX_ELEMENTS}")
        array = np.full(shape, number, layer.dtype(get.text("dtype", "float32")))
        return layer.writer.constant(array, layer.name)

    return build


op("_zeros")(_filled(0))
op("_ones")(_filled(1))
op("_full")(_filled(None))


@op("_arange")
def arange(layer: Layer) -> ir.Value:
    get = layer.attributes
    get.ignore("ctx", "infer_range")
    start, stop, step = get.number("start", 0.0), get.maybe_number("stop"), get.number("step", 1.0)
    repeat, dtype = get.integer("repeat", 1, least=1), layer.dtype(get.text("dtype", "float32"))
    if stop is None:
        start, stop = 0.0, start
    if (
        not all(map(math.isfinite, (start, stop, step)))
        or not step
        or abs((stop - start) / step) * repeat > _MAX_ELEMENTS
    ):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got {start} to {stop} by {step}")
    return layer.writer.constant(np.repeat(np.arange(start, stop, step), repeat).astype(dtype), layer.name)


@op("zeros_like", "ones_like")
def like(layer: Layer) -> ir.Value:
    x = layer.value(0)
    shape = layer.step("Shape", [x], "shape")
    fill = layer.scalar(float(layer.op == "ones_like"), x, "fill")
    return layer.final("Expand", [fill, shape])
