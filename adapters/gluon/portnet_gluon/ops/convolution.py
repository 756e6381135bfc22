"""Convolutions: MXNet's own layers, kernels in ONNX's layout (O, I, ...) and (I, O, ...)."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, op
from portnet_gluon.ops.windows import Window, pad, windowed


@op("Conv")
def conv(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Convolution`` of 1 to 3 spatial axes; asymmetric padding by a ``Pad`` before it."""
    bias = walk.optional(node.input(2))
    return convolve(walk, node, walk.value(node.required(0)), walk.value(node.required(1)), bias, node.required(1))


def convolve(walk: Any, node: NodeView, x: Symbol, weight: Symbol, bias: Symbol | None, kernel: Any) -> Symbol:
    """Convolve x with a weight of the sizes of the ONNX value ``kernel``, by the node's attributes."""
    shape = walk.sizes(kernel)
    (x, win), begin = windowed(walk, node, x, shape[2:]), None
    if not win.is_symmetric:
        x, begin = pad(x, win.begin, win.end), [0] * win.rank
    return _layer(mx.sym.Convolution, walk, node, (x, weight, bias), win, shape[0], pad=begin or win.begin)


@op("ConvTranspose")
def conv_transpose(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Deconvolution`` of the whole extent, cropped where ONNX pads."""
    shape = walk.sizes(node.required(1))
    channels = shape[1] * node["group"]
    kernel = shape[2:]
    begin, end, extra = _transpose_padding(walk, node, kernel)
    win = Window(kernel, _ints(node, "strides", 1, kernel), _ints(node, "dilations", 1, kernel), begin, end)
    if min(begin) < 0 or min(end) < 0:
        raise walk.unsupported(f"pads: got {begin + end}, expected none that is negative")
    # of known sizes MXNet tells it by itself, while the network is built
    if win.rank == 3 and set(win.dilations) != {1} and None in walk.static_shape(node.required(0)):
        raise walk.unsupported(f"dilations: got {win.dilations} in three axes, expected 1: MXNet has no others there")
    arrays = (walk.value(node.required(0)), walk.value(node.required(1)), walk.optional(node.input(2)))
    if win.is_symmetric and all(e < s for e, s in zip(extra, win.strides, strict=True)):
        return _layer(mx.sym.Deconvolution, walk, node, arrays, win, channels, pad=begin, adj=extra)
    whole = _layer(mx.sym.Deconvolution, walk, node, arrays, win, channels, pad=[0] * win.rank)
    ends = [e - add for e, add in zip(end, extra, strict=True)]
    if all(n >= 0 for n in ends):
        return pad(whole, [-n for n in begin], [-n for n in ends])
    raise walk.unsupported(f"output_padding: got {extra}, which reaches beyond pads {end}")


def _layer(
    layer: Any,
    walk: Any,
    node: NodeView,
    arrays: tuple[Symbol, Symbol, Symbol | None],
    win: Window,
    channels: int,
    **attributes: Any,
) -> Symbol:
    if win.rank not in (1, 2, 3):
        raise walk.unsupported(f"kernel_shape: got {win.rank} spatial axes, expected 1, 2 or 3")
    return layer(
        *(array for array in arrays if array is not None),
        kernel=win.kernel,
        stride=win.strides,
        dilate=win.dilations,
        num_filter=channels,
        num_group=node["group"],
        no_bias=arrays[2] is None,
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


@op("Col2Im")
def col2im(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.col2im``, of two spatial axes."""
    image, block = walk.host_ints(node.required(1)), walk.host_ints(node.required(2))
    pads = list(node.get("pads") or [0] * (2 * len(image)))
    half = len(image)
    if half != 2 or pads[:half] != pads[half:]:
        raise walk.unsupported(f"got {half} spatial axes and pads {pads}, expected two axes and symmetric pads")
    return mx.sym.col2im(
        walk.value(node.required(0)),
        output_size=image,
        kernel=block,
        stride=node.get("strides") or [1, 1],
        dilate=node.get("dilations") or [1, 1],
        pad=pads[:half],
        name=node.name,
    )
