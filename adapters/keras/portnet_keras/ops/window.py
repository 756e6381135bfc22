"""Kernels that slide over the spatial axes: padding, and where it is Keras's own "same" or "valid"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.operation import operation

__all__ = ["Window", "pad_axes", "padded", "same_padded", "same_pads", "settled"]

Pads = tuple[tuple[int, int], ...]


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding of TensorFlow's SAME, the odd one at the end. ``kernel`` counts its dilation."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Window:
    """A sliding window over spatial axes.

    Attributes:
        kernel: sizes.
        strides: steps.
        dilations: distance of neighbouring taps.
        pads: cells added before and after each axis; None where auto_pad must follow free sizes.
        extra: cells that ceil_mode adds after each axis on top of ``pads``.
        upper: whether auto_pad puts the odd cell at the end.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads | None
    extra: tuple[int, ...]
    upper: bool = True

    @classmethod
    def of(cls, walk: Any, node: NodeView, kernel: Sequence[int], sizes: Sequence[int | None]) -> Window:
        """Read a node's attributes for an input of spatial ``sizes``."""
        rank = len(kernel)
        window = cls(
            tuple(kernel),
            tuple(node.get("strides") or (1,) * rank),
            tuple(node.get("dilations") or (1,) * rank),
            tuple((0, 0) for _ in kernel),
            (0,) * rank,
            node.get("auto_pad", "NOTSET") != "SAME_LOWER",
        )
        window = replace(window, pads=window._pads(node, sizes))
        if node.get("ceil_mode", 0):
            window = replace(window, extra=window._ceil(sizes))
        return window

    @property
    def reach(self) -> tuple[int, ...]:
        """Cells that the kernel spans along each axis, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def all_pads(self) -> Pads | None:
        """Padding with what ceil_mode adds."""
        if self.pads is None:
            return None
        return tuple((begin, end + extra) for (begin, end), extra in zip(self.pads, self.extra, strict=True))

    def is_same(self, sizes: Sequence[int | None]) -> bool:
        """Whether Keras's "same" pads exactly like this."""
        if self.all_pads is None:
            return self.upper
        return all(
            pads == (same_pads(size, reach, stride) if size else stride == 1 and same_pads(reach, reach, 1))
            for pads, size, reach, stride in zip(self.all_pads, sizes, self.reach, self.strides, strict=True)
        )

    def _pads(self, node: NodeView, sizes: Sequence[int | None]) -> Pads | None:
        auto, rank = node.get("auto_pad", "NOTSET"), len(self.kernel)
        if auto == "VALID":
            return ((0, 0),) * rank
        if auto not in ("SAME_UPPER", "SAME_LOWER"):
            pads = node.get("pads") or [0] * (2 * rank)
            return tuple(zip(pads[:rank], pads[rank:], strict=True))
        # with stride 1 the padding is the same for any size
        axes = list(zip(sizes, self.reach, self.strides, strict=True))
        if all(size or stride == 1 for size, _, stride in axes):
            upper = [same_pads(size or reach, reach, stride) for size, reach, stride in axes]
            return tuple(upper) if auto == "SAME_UPPER" else tuple((end, begin) for begin, end in upper)
        return None

    def _ceil(self, sizes: Sequence[int | None]) -> tuple[int, ...]:
        if self.pads is None:
            return (0,) * len(self.kernel)
        axes = zip(sizes, self.pads, self.reach, self.strides, strict=True)
        return tuple(_ceil_extra(*axis) for axis in axes)


def _ceil_extra(size: int | None, pads: tuple[int, int], reach: int, stride: int) -> int:
    if size is None:
        # a window more is complete for a stride less one, and one that starts behind the data never is
        return min(stride - 1, reach - 1 - pads[1])
    span = size + sum(pads) - reach
    steps = math.ceil(span / stride)
    if steps * stride >= size + pads[0]:
        # a last window that would start in the padding behind is left out
        steps -= 1
    return max(steps * stride - span, 0)


@operation
def same_padded(x: Any, *, reach: Any, strides: Any, upper: bool, fill: float) -> Any:
    """Pad the spatial axes of (N, ..., C) for ⌈size / stride⌉ windows, whatever their sizes are."""
    widths: list[Any] = [(0, 0)]
    for size, span, stride in zip(ops.shape(x)[1:-1], reach, strides, strict=True):
        total = ops.maximum((-(-size // stride) - 1) * stride + span - size, 0)
        half = total // 2
        widths.append((half, total - half) if upper else (total - half, half))
    lowest = fill == -math.inf and "int" in keras.backend.standardize_dtype(x.dtype)
    fill = np.iinfo(keras.backend.standardize_dtype(x.dtype)).min if lowest else fill
    return ops.pad(x, [*widths, (0, 0)], constant_values=ops.cast(fill, x.dtype))


def settled(walk: Any, node: NodeView, x: Any, window: Window, fill: float = 0.0) -> tuple[Any, Window]:
    """Return x and a window without auto_pad: where that follows free sizes, x is padded by it."""
    if window.pads is not None:
        return x, window
    reach, strides = list(window.reach), list(window.strides)
    x = walk.apply(same_padded, node, x, reach=reach, strides=strides, upper=window.upper, fill=fill)
    return x, replace(window, pads=((0, 0),) * len(window.kernel))


def padded(walk: Any, node: NodeView, x: Any, pads: Pads, value: float = 0.0) -> Any:
    """Pad the spatial axes of (N, ..., C); with zeros by Keras's own layer. Negative pads cut off."""
    if not any(map(any, pads)):
        return x
    rank = len(pads)
    if value == 0 and rank <= 3 and min(map(min, pads)) >= 0:
        cls = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)[rank - 1]
        name = walk.name(f"{node.name}_pad")
        return cls(pads[0] if rank == 1 else pads, name=name, dtype=keras.backend.standardize_dtype(x.dtype))(x)
    return pad_axes(x, [(0, 0), *pads, (0, 0)], value)


def pad_axes(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """Pad every axis with a value; negative widths cut off."""
    if min(map(min, widths)) < 0:
        x = x[tuple(slice(max(-begin, 0), -max(-end, 0) or None) for begin, end in widths)]
    grow = [(max(begin, 0), max(end, 0)) for begin, end in widths]
    return ops.pad(x, grow, constant_values=value) if any(map(any, grow)) else x
