"""GridSample: values of an image between its pixels."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, cast, op
from portnet_gluon.ops.shape import dropped
from portnet_gluon.ops.wrap import half_even

# one axis's taps: index (int64) and weight of each, of the shape of the output's places
Taps = list[tuple[Symbol, Symbol]]

# α of the cubic kernel in ONNX's GridSample
_ALPHA = -0.75


@op("GridSample")
def grid_sample(walk: Any, node: NodeView) -> Symbol:
    """Sum over taps of weight · pixel; pixels by ``mx.sym.gather_nd`` on x with its channels last."""
    value = node.required(0)
    sizes, places = walk.spatial(value), walk.sizes(node.required(1))[:-1]
    rank, grid = len(sizes), walk.value(node.required(1))
    # the last coordinate of the grid is the first spatial axis
    taps = [_taps(node, _component(grid, rank - 1 - i, rank), size) for i, size in enumerate(sizes)]
    batch = walk.constant(node, "batch", np.indices(places)[0].astype(np.int64))
    last = mx.sym.transpose(walk.value(value), axes=(0, *range(2, rank + 2), 1))
    terms = [_term(last, batch, chosen) for chosen in itertools.product(*taps)]
    total = functools.reduce(mx.sym.elemwise_add, terms)
    return mx.sym.transpose(total, axes=(0, rank + 1, *range(1, rank + 1)), name=node.name)


def _component(grid: Symbol, index: int, rank: int) -> Symbol:
    one = mx.sym.slice_axis(grid, axis=-1, begin=index, end=index + 1)
    return dropped(one, (rank + 1,))


def _term(x: Symbol, batch: Symbol, chosen: tuple[tuple[Symbol, Symbol], ...]) -> Symbol:
    pixels = mx.sym.gather_nd(x, mx.sym.stack(batch, *(index for index, _ in chosen), axis=0))
    weight = functools.reduce(mx.sym.elemwise_mul, (weight for _, weight in chosen))
    return mx.sym.broadcast_mul(pixels, mx.sym.expand_dims(weight, axis=-1))


def _taps(node: NodeView, share: Symbol, size: int) -> Taps:
    """Return the taps on an axis of ``size`` for coordinates from −1 to 1."""
    corners, padding = bool(node["align_corners"]), node["padding_mode"]
    at = (share + 1) * ((size - 1) / 2) if corners else (share + 1) * (size / 2) - 0.5
    mode = node["mode"].removeprefix("bi")
    if mode == "nearest":
        at = half_even(at)
    if padding != "border" or mode != "cubic":  # onnxruntime keeps a cubic kernel's place there, and moves its pixels
        at = _within(at, size, padding, corners=corners)
    floor = mx.sym.floor(at)
    rest = mx.sym.elemwise_sub(at, floor)
    weights = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}[mode](rest)
    return [_tap(floor + offset, weight, size, padding, corners=corners) for offset, weight in weights.items()]


def _tap(place: Symbol, weight: Symbol, size: int, padding: str, *, corners: bool) -> tuple[Symbol, Symbol]:
    if padding == "zeros":
        inside = mx.sym.elemwise_mul(place >= 0, place <= size - 1)
        weight = mx.sym.elemwise_mul(weight, inside)
    else:
        place = _within(place, size, padding, corners=corners)
    return cast(mx.sym.clip(place, a_min=0, a_max=size - 1), "int64"), weight


def _within(at: Symbol, size: int, padding: str, *, corners: bool) -> Symbol:
    """Bring coordinates back by the padding mode; ``zeros`` leaves them."""
    if padding == "border":
        return mx.sym.clip(at, a_min=0, a_max=size - 1)
    if padding != "reflection":
        return at
    low, span = (0.0, size - 1.0) if corners else (-0.5, float(size))
    if not span:
        return mx.sym.zeros_like(at)
    turn = mx.sym.broadcast_mod(at - low, mx.sym.ones_like(at) * (2 * span))
    return mx.sym.minimum(turn, 2 * span - turn) + low


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
