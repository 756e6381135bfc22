"""Convolutions: MXNet's own layers, kernels in ONNX's layout (O, I, ...) and (I, O, ...)."""

from __future__ import annotations

from typing import Any

import sympy

from portnet.graph.floors import floor_of
from portnet.graph.lowering import NodeView
from portnet.graph.ranges import larger
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import plain, size_of
from portnet_gluon.ops.pad_free import placed
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
    """``mx.sym.Deconvolution``; where MXNet has no such padding, of the whole extent, cut or padded to ONNX's."""
    shape = walk.sizes(node.required(1))
    channels, kernel = shape[1] * node["group"], shape[2:]
    win = Window(kernel, _ints(node, "strides", 1, kernel), _ints(node, "dilations", 1, kernel), [], [])
    # of known sizes MXNet tells it by itself, while the network is built
    if win.rank == 3 and set(win.dilations) != {1} and None in walk.static_shape(node.required(0)):
        raise walk.unsupported(f"dilations: got {win.dilations} in three axes, expected 1: MXNet has no others there")
    x, weight, bias = (walk.optional(node.input(i)) for i in range(3))
    whole = [_whole(walk, node, win, i) for i in range(win.rank)]
    begin, lengths = _extent(walk, node, win, whole)
    ends = [plain(full - before - size) for full, before, size in zip(whole, begin, lengths, strict=True)]
    if all(isinstance(n, int) and n >= 0 for n in begin) and all(isinstance(n, int) for n in ends):
        extra = [before - end for before, end in zip(begin, ends, strict=True)]
        if all(0 <= e < s for e, s in zip(extra, win.strides, strict=True)):
            return _layer(mx.sym.Deconvolution, walk, node, (x, weight, bias), win, channels, pad=begin, adj=extra)
    y = _layer(mx.sym.Deconvolution, walk, node, (x, weight, None), win, channels, pad=[0] * win.rank)
    for i, (full, before, size, end) in enumerate(zip(whole, begin, lengths, ends, strict=True)):
        if isinstance(before, int) and isinstance(end, int):
            y = pad(y, *([-n * (j == i) for j in range(win.rank)] for n in (before, end)))
        else:
            y = placed(walk, node, y, rank=2 + win.rank, axis=2 + i, sizes=(full, -before, size))
    # beyond the whole extent the bias stands alone
    return y if bias is None else mx.sym.broadcast_add(y, mx.sym.reshape(bias, shape=(1, -1, *[1] * win.rank)))


def _whole(walk: Any, node: NodeView, win: Window, i: int) -> Any:
    """Return the size of spatial axis ``i`` that every tap of every window makes."""
    return win.strides[i] * (size_of(walk, node.required(0), 2 + i) - 1) + win.extents[i]


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


def _extent(walk: Any, node: NodeView, win: Window, whole: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return where in the whole extent the result begins and its sizes, from pads, auto_pad or output_shape."""
    rank, extra = win.rank, _ints(node, "output_padding", 0, win.kernel)
    mode, target = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if not target and mode in ("NOTSET", "VALID"):
        pads = list(node.get("pads") or [0] * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
        return pads[:rank], [whole[i] + extra[i] - pads[i] - pads[i + rank] for i in range(rank)]
    sizes = [size_of(walk, node.required(0), 2 + i) for i in range(rank)]
    lengths = list(target or (n * s for n, s in zip(sizes, win.strides, strict=True)))[-rank:]
    totals = [larger(n + e - size, 0) for n, e, size in zip(whole, extra, lengths, strict=True)]
    return [plain(floor_of((n if mode == "SAME_UPPER" else n + 1) / sympy.Integer(2))) for n in totals], lengths


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
