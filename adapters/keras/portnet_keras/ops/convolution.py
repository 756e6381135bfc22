"""Convolutions: Keras's layers where the kernel is a weight, `keras.ops` where it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Layout, channels_last
from portnet_keras.operation import operation
from portnet_keras.ops.registry import op
from portnet_keras.ops.window import Window, padded, settled

__all__ = ["convolved"]

_CONV = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSE = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_CROPPING = (keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D)


def _kernel_order(rank: int) -> tuple[int, ...]:
    """Order of (O, I, k...) as Keras wants it: (k..., I, O)."""
    return (*range(2, rank), 1, 0)


def _sizes(x: Any) -> tuple[int | None, ...]:
    return tuple(x.shape[1:-1])


@dataclass(frozen=True)
class _Plan:
    """A convolution that Keras can do: a padded input, and the steps to keep of its result."""

    x: Any
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str
    keep: tuple[int, ...] | None

    @classmethod
    def of(cls, walk: Any, node: NodeView, x: Any, kernel: Sequence[int]) -> _Plan:
        """Plan a convolution with a kernel of spatial sizes ``kernel``."""
        window = Window.of(walk, node, kernel, _sizes(x))
        padding = "same" if window.is_same(_sizes(x)) else "valid"
        # Keras has no strides together with dilation: every cell is computed and some are kept
        apart = max(window.dilations) > 1 and max(window.strides) > 1
        if padding == "valid" or apart:
            x, window = settled(walk, node, x, window)
            x, padding = padded(walk, node, x, window.pads or ()), "valid"
        ones = (1,) * len(window.strides)
        return cls(x, ones if apart else window.strides, window.dilations, padding, window.strides if apart else None)

    def kept(self, y: Any) -> Any:
        """Return the steps to keep of a result."""
        return y if self.keep is None else y[(slice(None), *(slice(None, None, step) for step in self.keep))]


@op("Conv", spatial=True)
def conv(walk: Any, node: NodeView) -> KValue:
    """Convolution over one, two or three spatial axes."""
    x, kernel, bias = walk.last(node.required(0)), node.required(1), node.input(2)
    shape = _kernel_shape(walk, x, kernel)
    if walk.claimable(kernel) and (bias is None or walk.claimable(bias)):
        plan = _Plan.of(walk, node, x, shape[2:])
        return KValue(plan.kept(_conv_layer(walk, node, plan)), channels_last(len(x.shape)))
    native = walk.ordered(walk.value(kernel), _kernel_order(len(x.shape)))
    y = convolved(walk, node, x, native)
    return KValue(_biased(walk, node, y), channels_last(len(x.shape)))


def _kernel_shape(walk: Any, x: Any, kernel: Any) -> tuple[int, ...]:
    shape = walk.static_shape(kernel)
    if not 3 <= len(x.shape) <= 5 or shape is None or None in shape:
        raise walk.unsupported(f"a kernel of shape {shape}; expected 1, 2 or 3 spatial axes of known sizes")
    return shape


def convolved(walk: Any, node: NodeView, x: Any, kernel: Any) -> Any:
    """Convolve (N, ..., C) with a computed kernel (k..., C / groups, O) by a Conv node's attributes."""
    plan = _Plan.of(walk, node, x, kernel.shape[:-2])
    attributes = {"strides": plan.strides, "dilations": plan.dilations, "padding": plan.padding}
    if kernel.shape[-2] == x.shape[-1]:
        return plan.kept(_conv(plan.x, kernel, **attributes))
    return plan.kept(walk.apply(convolve, node, plan.x, kernel, **attributes))


def _conv(x: Any, kernel: Any, *, strides: Any, dilations: Any, padding: str) -> Any:
    return ops.conv(
        x, kernel, strides=tuple(strides), padding=padding, data_format="channels_last", dilation_rate=tuple(dilations)
    )


@operation
def convolve(x: Any, kernel: Any, *, strides: Any, dilations: Any, padding: str) -> Any:
    """Convolve in groups, which `keras.ops.conv` does not do on symbolic tensors."""
    return _conv(x, kernel, strides=strides, dilations=dilations, padding=padding)


def _conv_layer(walk: Any, node: NodeView, plan: _Plan) -> Any:
    kernel, bias, groups = node.required(1), node.input(2), node["group"]
    shape = tuple(int(n) for n in kernel.const_value.shape)  # type: ignore[union-attr]
    x, strides, dilations, padding = walk.symbolic(plan.x), plan.strides, plan.dilations, plan.padding
    rank = len(shape) - 2
    common = {
        "strides": strides if rank > 1 else strides[0],
        "padding": padding,
        "dilation_rate": dilations if rank > 1 else dilations[0],
        "use_bias": bias is not None,
        "kernel_size": shape[2:],
    }
    if groups > 1 and shape[1] == 1 and rank <= 2 and len(set(strides)) == 1 and x.shape[-1] == groups:
        multiplier = shape[0] // groups
        layer = walk.layer(
            node, _DEPTHWISE[rank - 1], depth_multiplier=multiplier, depthwise_initializer="zeros", **common
        )
        layout = Layout.of(shape, (*range(2, 2 + rank), 0, 1), split=(groups, multiplier, *shape[2:]))
    else:
        layer = walk.layer(node, _CONV[rank - 1], filters=shape[0], groups=groups, kernel_initializer="zeros", **common)
        layout = Layout.of(shape, _kernel_order(rank + 2))
    return walk.filled(layer, x, {"kernel": (kernel, layout), "bias": (bias, Layout.of(shape[:1]))})


def _biased(walk: Any, node: NodeView, y: Any) -> Any:
    bias = node.input(2)
    return y if bias is None else ops.add(y, walk.plain(bias))


@op("ConvTranspose", spatial=True)
def conv_transpose(walk: Any, node: NodeView) -> KValue:
    """Transposed convolution over one, two or three spatial axes."""
    x, kernel = walk.last(node.required(0)), node.required(1)
    shape = _kernel_shape(walk, x, kernel)
    window = Window.of(walk, _without_padding(node), shape[2:], _sizes(x))
    crops = _crops(walk, node, window, _sizes(x))
    fits = min(map(min, crops)) >= 0 and max(window.dilations) == 1 and node["group"] == 1
    longer = all(k >= s for k, s in zip(window.kernel, window.strides, strict=True))
    bias = node.input(2)
    if fits and longer and walk.claimable(kernel) and (bias is None or walk.claimable(bias)):
        return KValue(_transpose_layer(walk, node, x, window, crops), channels_last(len(x.shape)))
    attributes = {"strides": list(window.strides), "dilations": list(window.dilations), "groups": node["group"]}
    attributes["crops"] = [list(pair) for pair in crops]
    order = (*range(2, len(x.shape)), 0, 1)
    data = walk.apply(deconvolve, node, x, walk.ordered(walk.value(kernel), order), **attributes)
    return KValue(_biased(walk, node, data), channels_last(len(x.shape)))


def _without_padding(node: NodeView) -> NodeView:
    view = NodeView(node.ir, node.opset)
    view.attributes = {**node.attributes, "auto_pad": "VALID"}
    return view


def _crops(walk: Any, node: NodeView, window: Window, sizes: tuple[int | None, ...]) -> tuple[tuple[int, int], ...]:
    """Cells to cut off the full result at each end; negative where zeros are to be added."""
    rank = len(sizes)
    extra = node.get("output_padding") or [0] * rank
    auto, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if not wanted and auto in ("NOTSET", "VALID"):
        pads = (node.get("pads") if auto == "NOTSET" else None) or [0] * (2 * rank)
        return tuple((pads[i], pads[i + rank] - extra[i]) for i in range(rank))
    if wanted:
        if None in sizes:
            raise walk.unsupported("output_shape with free sizes")
        full = [(n - 1) * s + k for n, s, k in zip(sizes, window.strides, window.reach, strict=True)]  # type: ignore[operator]
        totals = [have + add - want for have, add, want in zip(full, extra, wanted[-rank:], strict=True)]
    else:
        totals = [k + add - s for k, s, add in zip(window.reach, window.strides, extra, strict=True)]
    # what is missing is added at the end
    begin = [(max(total, 0) + (auto != "SAME_UPPER")) // 2 for total in totals]
    return tuple((first, total - first - add) for first, total, add in zip(begin, totals, extra, strict=True))


def _transpose_layer(walk: Any, node: NodeView, x: Any, window: Window, crops: Any) -> Any:
    kernel, bias = node.required(1), node.input(2)
    shape = tuple(int(n) for n in kernel.const_value.shape)  # type: ignore[union-attr]
    rank = len(crops)
    totals = [k - s for k, s in zip(window.kernel, window.strides, strict=True)]
    same = crops == tuple((total // 2, total - total // 2) for total in totals)
    layer = walk.layer(
        node,
        _TRANSPOSE[rank - 1],
        filters=shape[1],
        kernel_size=shape[2:],
        strides=window.strides if rank > 1 else window.strides[0],
        padding="same" if same else "valid",
        use_bias=bias is not None,
        kernel_initializer="zeros",
    )
    layout = Layout.of(shape, (*range(2, rank + 2), 1, 0))
    y = walk.filled(layer, walk.symbolic(x), {"kernel": (kernel, layout), "bias": (bias, Layout.of(shape[1:2]))})
    if same or not any(map(any, crops)):
        return y
    cropping = _CROPPING[rank - 1](crops if rank > 1 else crops[0], name=walk.name(f"{node.name}_crop"))
    return cropping(y)


@operation
def deconvolve(x: Any, kernel: Any, *, strides: Any, dilations: Any, groups: int, crops: Any) -> Any:
    """Transposed convolution of (N, ..., C) with a kernel (k..., C, O / groups).

    Zeros are put between the cells, then the flipped kernel is convolved over the whole.
    """
    rank, sizes = len(strides), kernel.shape[:-2]
    for axis, stride in enumerate(strides, start=1):
        x = _spread(x, axis, stride)
    reach = [(k - 1) * d for k, d in zip(sizes, dilations, strict=True)]
    pads = [(r - begin, r - end) for r, (begin, end) in zip(reach, crops, strict=True)]
    keep = [slice(max(-begin, 0), -max(-end, 0) or None) for begin, end in pads]
    widths = [(0, 0), *((max(begin, 0), max(end, 0)) for begin, end in pads), (0, 0)]
    flipped = ops.flip(kernel, axis=tuple(range(rank)))
    split = ops.reshape(flipped, (*sizes, groups, kernel.shape[-2] // groups, kernel.shape[-1]))
    swapped = ops.transpose(split, (*range(rank), rank + 1, rank, rank + 2))
    native = ops.reshape(swapped, (*sizes, kernel.shape[-2] // groups, groups * kernel.shape[-1]))
    full = ops.pad(x, widths)[(slice(None), *keep)]
    return ops.conv(
        full, native, strides=1, padding="valid", data_format="channels_last", dilation_rate=tuple(dilations)
    )


def _spread(x: Any, axis: int, stride: int) -> Any:
    """Put ``stride`` - 1 zeros between neighbours along an axis."""
    if stride == 1:
        return x
    shape = list(ops.shape(x))
    widths = [(0, 0)] * (len(shape) + 1)
    widths[axis + 1] = (0, stride - 1)
    wide = ops.pad(ops.expand_dims(x, axis + 1), widths)
    shape[axis] = shape[axis] * stride
    last = [slice(None)] * len(shape)
    last[axis] = slice(None, -(stride - 1))
    return ops.reshape(wide, shape)[tuple(last)]
