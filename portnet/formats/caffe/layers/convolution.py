"""Convolution and Deconvolution."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.caffe.text import Message

__all__ = ["spatial"]

MAX_WINDOW = 1 << 16


@caffe("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(layer: Layer) -> Sequence[ir.Value]:
    """Conv; arrays (num_output, channels / group, height, width) and (num_output)."""
    return [_convolve(layer, x, "Conv", suffix) for x, suffix in _each(layer)]


@caffe("Deconvolution")
def deconvolution(layer: Layer) -> Sequence[ir.Value]:
    """ConvTranspose; arrays (channels, num_output / group, height, width) and (num_output)."""
    return [_convolve(layer, x, "ConvTranspose", suffix) for x, suffix in _each(layer)]


def _each(layer: Layer) -> list[tuple[ir.Value, str]]:
    """Return what is read, one for each top; Caffe convolves several with the same kernel."""
    if layer.tops != len(layer.bottoms):
        raise NotExpressible(f"with {len(layer.bottoms)} bottoms and {layer.tops} tops")
    return [(x, "" if place == 0 else str(place)) for place, x in enumerate(layer.bottoms)]


def _convolve(layer: Layer, x: ir.Value, op: str, suffix: str) -> ir.Value:
    options = layer.options("convolution_param")
    channels, axes = layer.size(1), len(layer.sizes) - 2
    if options.integer("axis", 1) != 1 or axes < 1:
        raise NotExpressible(f"over {axes} axes from axis {options.integer('axis', 1) + 1} on")
    outputs = options.integer("num_output", channels if "Depthwise" in layer.kind else 0)
    group = options.integer("group", channels if "Depthwise" in layer.kind else 1)
    if group < 1 or channels % group or outputs < 1 or outputs % group:
        raise NotExpressible(f"of {channels} channels to {outputs} in {group} groups")
    kernel = spatial(options, "kernel", axes, None, least=1)
    first, second = (outputs, channels // group) if op == "Conv" else (channels, outputs // group)
    weight = layer.weight("weight", 0, (first, second, *kernel), filler=options.message("weight_filler"))
    inputs = [x, weight]
    if options.flag("bias_term", True):
        inputs.append(layer.weight("bias", 1, (outputs,), filler=options.message("bias_filler")))
    return layer.node(
        op,
        inputs,
        suffix,
        kernel_shape=kernel,
        strides=spatial(options, "stride", axes, 1, least=1),
        pads=spatial(options, "pad", axes, 0) * 2,
        dilations=spatial(options, "dilation", axes, 1, least=1),
        group=group,
    )


def spatial(options: Message, what: str, axes: int, default: int | None, *, least: int = 0) -> list[int]:
    """Return one size for each spatial axis, from ``what`` (``kernel_size``), or ``what_h`` and ``what_w``.

    Raises:
        NotExpressible: missing, too many, or out of range.
    """
    given = options.integers("kernel_size" if what == "kernel" else what)
    pair = [options.integers(f"{what}_h"), options.integers(f"{what}_w")]
    if any(pair):
        if axes != 2:
            raise NotExpressible(f"{what}_h over {axes} axes")
        given = [(own or given or [default or 0])[-1] for own in pair]
    elif not given and default is not None:
        given = [default]
    if len(given) == 1:
        given = given * axes
    if len(given) != axes or not all(least <= size <= MAX_WINDOW for size in given):
        raise NotExpressible(f"{what} {given} over {axes} axes")
    return given
