"""Sliding windows: kernel, stride, dilation and padding as ONNX says them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy

from portnet.graph.floors import floor_of
from portnet.graph.lowering import NodeView
from portnet.graph.ranges import larger
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import size_of
from portnet_gluon.ops.pad_free import placed
from portnet_gluon.ops.registry import Symbol, numpy_op

__all__ = ["Window", "lowest", "pad", "sliced", "windowed"]


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


def windowed(walk: Any, node: NodeView, x: Symbol, kernel: list[int], fill: float = 0.0) -> tuple[Symbol, Window]:
    """Return the data and the window of a convolution or pooling node, ``auto_pad`` resolved.

    Args:
        walk: the walk.
        node: the node.
        x: its data, or data of the same spatial sizes.
        kernel: sizes of the window.
        fill: what stands in padding that depends on a free size, which the data that are returned bear already.

    Raises:
        UnsupportedError: MXNet cannot compute a free size that the padding depends on.
    """
    rank = len(kernel)
    strides = list(node.get("strides") or [1] * rank)
    dilations = list(node.get("dilations") or [1] * rank)
    pads = list(node.get("pads") or [0] * (2 * rank))
    mode = node.get("auto_pad", "NOTSET")
    plain = Window(kernel, strides, dilations, [0] * rank, [0] * rank, bool(node.get("ceil_mode", 0)))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        return x, plain if mode == "VALID" else replace(plain, begin=pads[:rank], end=pads[rank:])
    for i, extent in enumerate(plain.extents):
        own = size_of(walk, node.required(0), 2 + i)
        whole = -strides[i] * floor_of(-sympy.sympify(own) / strides[i]) - strides[i] + extent
        total = sympy.sympify(larger(whole - own, 0))
        before = floor_of((total if mode == "SAME_UPPER" else total + 1) / 2)
        if total.is_Integer:
            plain.begin[i], plain.end[i] = int(before), int(total - before)
        else:
            # what does not reach the last window, where strides are longer, is cut off
            x = placed(walk, node, x, rank=2 + rank, axis=2 + i, sizes=(own, before, whole), fill=fill)
    return x, plain


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
