"""Pad: what is there is continued by a number, or by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import size_of
from portnet_gluon.ops.pad_free import placed
from portnet_gluon.ops.registry import BOOL_AS_BYTES, Symbol, numpy_op, op


@op("Pad", instead=BOOL_AS_BYTES)
def pad(walk: Any, node: NodeView) -> Symbol:
    """numpy's pad; negative widths crop, and widths may be computed from free sizes."""
    source = node.required(0)
    rank, x = walk.rank(source), walk.value(source)
    axes = list(range(rank)) if node.input(3) is None else [a % rank for a in walk.host_ints(node.required(3))]
    given = walk.host_dims(node.required(1))
    fill = 0.0 if node.input(2) is None else walk.host(node.required(2)).item()
    widths = [(0, 0)] * rank
    for axis, before, after in zip(axes, given[: len(axes)], given[len(axes) :], strict=True):
        if _is_computed(walk, node, axis, (before, after)):
            own, mode = size_of(walk, source, axis), node["mode"]
            place = {"rank": rank, "axis": axis, "sizes": (own, before, own + before + after)}
            x = placed(walk, node, x, **place, mode=mode, fill=fill)
        else:
            widths[axis] = before, after
            x = _cropped(x, axis, before, after)
    return _padded(walk, node, x, [(max(before, 0), max(after, 0)) for before, after in widths], fill)


def _is_computed(walk: Any, node: NodeView, axis: int, widths: tuple[Any, Any]) -> bool:
    """Whether what an axis becomes follows from a free size in more than its length."""
    if all(isinstance(width, int) for width in widths):
        return node["mode"] == "wrap" and any(widths) and walk.static_shape(node.required(0))[axis] is None
    return True


def _cropped(x: Symbol, axis: int, before: int, after: int) -> Symbol:
    if before >= 0 and after >= 0:
        return x
    return mx.sym.slice_axis(x, axis=axis, begin=max(-before, 0), end=min(after, 0) or None)


def _padded(walk: Any, node: NodeView, x: Symbol, widths: list[tuple[int, int]], fill: Any) -> Symbol:
    mode = node["mode"]
    if mode == "constant":
        return numpy_op("pad", x, pad_width=widths, mode="constant", constant_value=float(fill), name=node.name)
    if mode == "wrap":
        return _wrapped_around(walk, node, x, widths)
    for axis, (before, after) in enumerate(widths):
        x = _continued(x, axis, before, after, _SIDES[mode])
    return mx.sym.identity(x, name=node.name)


def _mirrored(x: Symbol, axis: int, width: int, front: bool) -> Symbol:
    begin, end = (1, width + 1) if front else (-width - 1, -1)
    return mx.sym.reverse(mx.sym.slice_axis(x, axis=axis, begin=begin, end=end), axis=axis)


def _repeated(x: Symbol, axis: int, width: int, front: bool) -> Symbol:
    begin, end = (0, 1) if front else (-1, None)
    return mx.sym.repeat(mx.sym.slice_axis(x, axis=axis, begin=begin, end=end), repeats=width, axis=axis)


_SIDES = {"reflect": _mirrored, "edge": _repeated}


def _continued(x: Symbol, axis: int, before: int, after: int, side: Callable[..., Symbol]) -> Symbol:
    """Join what ``side`` makes of both ends to x: numpy's pad in MXNet has no gradient for these modes."""
    front = [side(x, axis, before, True)] if before else []
    back = [side(x, axis, after, False)] if after else []
    return mx.sym.concat(*front, x, *back, dim=axis) if front or back else x


def _wrapped_around(walk: Any, node: NodeView, x: Symbol, widths: list[tuple[int, int]]) -> Symbol:
    """Continue the data from its other end, by a gather along each axis that is padded."""
    for axis, (before, after) in enumerate(widths):
        if before or after:
            size = walk.static_shape(node.outputs[0])[axis] - before - after
            places = np.arange(-before, size + after, dtype=np.int64) % size
            x = numpy_op("take", x, walk.constant(node, f"places{axis}", places), axis=axis, mode="clip")
    return x
