"""GridSample: values of an image between its pixels."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import counted, size_of
from portnet_gluon.ops.registry import Symbol, cast, op
from portnet_gluon.ops.shape import dropped
from portnet_gluon.ops.wrap import half_even

# one axis's taps: index (int64) and weight of each, of the shape of the output's places
Taps = list[tuple[Symbol, Symbol]]

# a free size is a tensor of one element
Size = float | Symbol

_TINY = 1e-30

# α of the cubic kernel in ONNX's GridSample
_ALPHA = -0.75


@op("GridSample")
def grid_sample(walk: Any, node: NodeView) -> Symbol:
    """Sum over taps of weight · pixel; pixels by ``mx.sym.gather_nd`` on x with its channels last."""
    value = node.required(0)
    rank, grid = walk.rank(value) - 2, walk.value(node.required(1))
    # the last coordinate of the grid is the first spatial axis
    taps = [_taps(node, _component(grid, rank - 1 - i, rank), _extent(walk, node, i)) for i in range(rank)]
    batch = _batch(walk, node, rank)
    last = mx.sym.transpose(walk.value(value), axes=(0, *range(2, rank + 2), 1))
    terms = [_term(last, batch, chosen) for chosen in itertools.product(*taps)]
    total = functools.reduce(mx.sym.elemwise_add, terms)
    return mx.sym.transpose(total, axes=(0, rank + 1, *range(1, rank + 1)), name=node.name)


def _extent(walk: Any, node: NodeView, i: int) -> Size:
    """Return the size of spatial axis ``i`` of the image, a free one as float32 of shape (1,)."""
    size = size_of(walk, node.required(0), 2 + i)
    return size if isinstance(size, int) else cast(walk.size(size, f"{node.name}_size{i}"), "float32")


def _batch(walk: Any, node: NodeView, rank: int) -> Symbol:
    """Return the place of each point's image, int64, of the points' shape."""
    grid = node.required(1)
    places = walk.static_shape(grid)[:-1]
    if None not in places:
        return walk.constant(node, "batch", np.indices(places)[0].astype(np.int64))
    column = mx.sym.reshape(counted(walk, size_of(walk, grid, 0)), shape=[-1] + [1] * rank)
    return mx.sym.broadcast_add(cast(mx.sym.zeros_like(_component(walk.value(grid), 0, rank)), "int64"), column)


def _component(grid: Symbol, index: int, rank: int) -> Symbol:
    one = mx.sym.slice_axis(grid, axis=-1, begin=index, end=index + 1)
    return dropped(one, (rank + 1,))


def _term(x: Symbol, batch: Symbol, chosen: tuple[tuple[Symbol, Symbol], ...]) -> Symbol:
    pixels = mx.sym.gather_nd(x, mx.sym.stack(batch, *(index for index, _ in chosen), axis=0))
    weight = functools.reduce(mx.sym.elemwise_mul, (weight for _, weight in chosen))
    return mx.sym.broadcast_mul(pixels, mx.sym.expand_dims(weight, axis=-1))


def _taps(node: NodeView, share: Symbol, size: Size) -> Taps:
    """Return the taps on an axis of ``size`` for coordinates from −1 to 1."""
    corners, padding = bool(node["align_corners"]), node["padding_mode"]
    at = _by("mul", share + 1, (size - 1) / 2) if corners else _by("mul", share + 1, size / 2) - 0.5
    mode = node["mode"].removeprefix("bi")
    if mode == "nearest":
        at = half_even(at)
    if padding != "border" or mode != "cubic":  # onnxruntime keeps a cubic kernel's place there, and moves its pixels
        at = _within(at, size, padding, corners=corners)
    floor = mx.sym.floor(at)
    rest = mx.sym.elemwise_sub(at, floor)
    weights = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}[mode](rest)
    return [_tap(floor + offset, weight, size, padding, corners=corners) for offset, weight in weights.items()]


def _tap(place: Symbol, weight: Symbol, size: Size, padding: str, *, corners: bool) -> tuple[Symbol, Symbol]:
    if padding != "zeros":
        place = _within(place, size, padding, corners=corners)
    inside = _clipped(place, size)
    if padding == "zeros":
        weight = mx.sym.elemwise_mul(weight, mx.sym.broadcast_equal(place, inside))
    return cast(inside, "int64"), weight


def _clipped(place: Symbol, size: Size) -> Symbol:
    return mx.sym.maximum(_by("minimum", place, size - 1), 0)


def _within(at: Symbol, size: Size, padding: str, *, corners: bool) -> Symbol:
    """Bring coordinates back by the padding mode; ``zeros`` leaves them."""
    if padding == "border":
        return _clipped(at, size)
    if padding != "reflection":
        return at
    low, span = (0.0, size - 1) if corners else (-0.5, size)
    # where the span is nothing, all places are the same
    turn = _by("mod", at - low, mx.sym.maximum(span * 2, _TINY) if isinstance(span, Symbol) else max(span * 2, _TINY))
    return mx.sym.minimum(turn, _by("add", turn * -1, span * 2)) + low


def _by(name: str, x: Symbol, n: Size) -> Symbol:
    """Return what an operator makes of x and a number, which may be a tensor of one element."""
    if isinstance(n, Symbol):
        return getattr(mx.sym, f"broadcast_{name}")(x, n)
    return _SCALAR[name](x, n)


_SCALAR = {"mul": operator.mul, "add": operator.add, "mod": operator.mod, "minimum": mx.sym.minimum}


def _nearest(rest: Symbol) -> dict[int, Symbol]:
    return {0: mx.sym.ones_like(rest)}


def _linear(rest: Symbol) -> dict[int, Symbol]:
    return {0: 1 - rest, 1: rest}


def _cubic(rest: Symbol) -> dict[int, Symbol]:
    """Keys's kernel (1981)."""

    def near(t: Symbol) -> Symbol:
        return mx.sym.square(t) * (t * (_ALPHA + 2) - (_ALPHA + 3)) + 1

    def far(t: Symbol) -> Symbol:
        return ((t * _ALPHA - 5 * _ALPHA) * t + 8 * _ALPHA) * t - 4 * _ALPHA

    return {-1: far(rest + 1), 0: near(rest), 1: near(1 - rest), 2: far(2 - rest)}
