"""Convolutions: MXNet's own layers, kernels in ONNX's layout (O, I, ...) and (I, O, ...)."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import HALF_AS_FLOAT, Symbol, op
from portnet_gluon.ops.windows import Window, pad, window


@op("Conv", instead=HALF_AS_FLOAT)
def conv(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Convolution`` of 1 to 3 spatial axes; asymmetric padding by a ``Pad`` before it."""
    shape = walk.sizes(node.required(1))
    win = window(walk, node, shape[2:])
    x, begin = walk.value(node.required(0)), win.begin
    if not win.is_symmetric:
        x, begin = pad(x, win.begin, win.end), [0] * win.rank
    return _layer(mx.sym.Convolution, walk, node, x, win, shape[0], pad=begin)


@op("ConvTranspose", instead=HALF_AS_FLOAT)
def conv_transpose(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Deconvolution`` of the whole extent, cropped where ONNX pads."""
    shape = walk.sizes(node.required(1))
    channels = shape[1] * node["group"]
    kernel = shape[2:]
    begin, end, extra = _transpose_padding(walk, node, kernel)
    win = Window(kernel, _ints(node, "strides", 1, kernel), _ints(node, "dilations", 1, kernel), begin, end)
    if min(begin) < 0 or min(end) < 0:
        raise walk.unsupported(f"pads: got {begin + end}, expected none that is negative")
    x = walk.value(node.required(0))
    if win.is_symmetric and all(e < s for e, s in zip(extra, win.strides, strict=True)):
        return _layer(mx.sym.Deconvolution, walk, node, x, win, channels, pad=begin, adj=extra)
    whole = _layer(mx.sym.Deconvolution, walk, node, x, win, channels, pad=[0] * win.rank)
    ends = [e - add for e, add in zip(end, extra, strict=True)]
    if all(n >= 0 for n in ends):
        return pad(whole, [-n for n in begin], [-n for n in ends])
    raise walk.unsupported(f"output_padding: got {extra}, which reaches beyond pads {end}")


def _layer(layer: Any, walk: Any, node: NodeView, x: Symbol, win: Window, channels: int, **attributes: Any) -> Symbol:
    bias = walk.optional(node.input(2))
    if win.rank not in (1, 2, 3):
        raise walk.unsupported(f"kernel_shape: got {win.rank} spatial axes, expected 1, 2 or 3")
    return layer(
        x,
        walk.value(node.required(1)),
        *([] if bias is None else [bias]),
        kernel=win.kernel,
        stride=win.strides,
        dilate=win.dilations,
        num_filter=channels,
        num_group=node["group"],
        no_bias=bias is None,
        name=node.name,
        **attributes,
    )


def _ints(node: NodeView, name: str, default: int, kernel: list[int]) -> list[int]:
    return list(node.get(name) or [default] * len(kernel))


def _transpose_padding(walk: Any, node: NodeView, kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Return padding before, after, and the size added at the end, from pads, auto_pad or output_shape."""
    rank, extra = len(kernel), _ints(node, "output_padding", 0, kernel)
    strides, dilations = _ints(node, "strides", 1, kernel), _ints(node, "dilations", 1, kernel)
    mode, target = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if mode == "NOTSET" and not target:
        pads = list(node.get("pads") or [0] * (2 * rank))
        return pads[:rank], pads[rank:], extra
    if mode == "VALID" and not target:
        return [0] * rank, [0] * rank, extra
    sizes = walk.spatial(node.required(0))
    target = list(target or (n * s for n, s in zip(sizes, strides, strict=True)))[-rank:]
    totals = [
        s * (n - 1) + e + (k - 1) * d + 1 - t
        for n, s, e, k, d, t in zip(sizes, strides, extra, kernel, dilations, target, strict=True)
    ]
    extra = [e + max(-total, 0) for e, total in zip(extra, totals, strict=True)]
    totals = [max(total, 0) for total in totals]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large, extra) if mode == "SAME_UPPER" else (large, small, extra)
