"""Sliding windows: kernel, stride, dilation and padding as ONNX says them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, numpy_op

__all__ = ["Window", "lowest", "pad", "sliced", "window"]


@dataclass(frozen=True)
class Window:
    """One sliding window; every list has an entry for each spatial axis.

    Attributes:
        kernel: sizes.
        strides: steps.
        dilations: distances between taps.
        begin: padding before the data.
        end: padding after the data.
        ceil: whether the last, incomplete window counts.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]
    ceil: bool = False

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def is_symmetric(self) -> bool:
        """Whether padding is the same on both sides, as MXNet's layers have it."""
        return self.begin == self.end

    @property
    def extents(self) -> list[int]:
        """Sizes of the window with its dilation."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def output_sizes(self, sizes: list[int]) -> list[int]:
        """Return how many windows fit on data of ``sizes``; one that would start in the end padding does not."""
        return [self.count(i, size) for i, size in enumerate(sizes)]

    def count(self, i: int, size: int) -> int:
        """Return how many windows fit on spatial axis ``i`` of ``size``."""
        room, stride = size + self.begin[i] + self.end[i] - self.extents[i], self.strides[i]
        if not self.ceil:
            return room // stride + 1
        count = -(-room // stride) + 1
        return count - ((count - 1) * stride >= size + self.begin[i])

    def end_to_fit(self, sizes: list[int]) -> list[int]:
        """Return the end padding, negative for a crop, with which every window is complete."""
        counts = self.output_sizes(sizes)
        return [
            (counts[i] - 1) * self.strides[i] + self.extents[i] - size - self.begin[i] for i, size in enumerate(sizes)
        ]

    def end_to_close(self) -> list[int]:
        """Return the end padding with which, whatever the size, as many windows are complete as there are to be.

        A window more is complete for a stride less one, and one that starts behind the data never is.
        """
        if not self.ceil:
            return self.end
        return [min(e + s - 1, n - 1) for e, s, n in zip(self.end, self.strides, self.extents, strict=True)]


def window(walk: Any, node: NodeView, kernel: list[int]) -> Window:
    """Return the window of a convolution or pooling node, ``auto_pad`` resolved."""
    rank = len(kernel)
    strides = list(node.get("strides") or [1] * rank)
    dilations = list(node.get("dilations") or [1] * rank)
    pads = list(node.get("pads") or [0] * (2 * rank))
    mode = node.get("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * (2 * rank)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        plain = Window(kernel, strides, dilations, [0] * rank, [0] * rank)
        pads = _same(plain, walk.spatial(node.required(0)), upper=mode == "SAME_UPPER")
    return Window(kernel, strides, dilations, pads[:rank], pads[rank:], bool(node.get("ceil_mode", 0)))


def _same(plain: Window, sizes: list[int], *, upper: bool) -> list[int]:
    totals = [
        max((-(-size // stride) - 1) * stride + extent - size, 0)
        for size, stride, extent in zip(sizes, plain.strides, plain.extents, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return small + large if upper else large + small


def sliced(x: Symbol, begin: list[Any], end: list[Any], step: list[Any], **attributes: Any) -> Symbol:
    """``mx.sym.slice``, channels first cut by themselves.

    oneDNN keeps what a convolution returns in blocks of 8 or 16 channels, and its slice takes whole blocks alone: MXNet
    fails at other bounds, or the process ends in a floating point exception.
    """
    if len(begin) > 1 and step[1] in (None, 1) and (begin[1], end[1]) != (None, None):
        x = mx.sym.slice_axis(x, axis=1, begin=begin[1] or 0, end=end[1])
        begin, end = [begin[0], None, *begin[2:]], [end[0], None, *end[2:]]
    if all(bound is None for bound in (*begin, *end)):
        return mx.sym.identity(x, **attributes)
    return mx.sym.slice(x, begin=begin, end=end, step=step, **attributes)


def pad(x: Symbol, begin: list[int], end: list[int], value: float = 0.0) -> Symbol:
    """Pad, or with negative numbers crop, the spatial axes of x (N, C, ...) with a constant."""
    for axis, (before, after) in enumerate(zip(begin, end, strict=True), start=2):
        if before < 0 or after < 0:
            x = mx.sym.slice_axis(x, axis=axis, begin=max(-before, 0), end=min(after, 0) or None)
    before, after = ([max(n, 0) for n in side] for side in (begin, end))
    if not any(before + after):
        return x
    if len(before) in (2, 3):
        width = [0, 0, 0, 0, *(n for pair in zip(before, after, strict=True) for n in pair)]
        return mx.sym.Pad(x, mode="constant", pad_width=width, constant_value=value)
    pairs = ((0, 0), (0, 0), *zip(before, after, strict=True))
    return numpy_op("pad", x, pad_width=pairs, mode="constant", constant_value=value)


def lowest(dtype: str) -> float:
    """Return the lowest finite number of an element type."""
    kind = np.dtype(dtype)
    return float(np.finfo(kind).min if kind.kind == "f" else np.iinfo(kind).min)
