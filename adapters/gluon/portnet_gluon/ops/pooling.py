"""Pooling: MXNet's layer where it means the same, explicit padding or shifted slices where it does not."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, numpy_op, op
from portnet_gluon.ops.windows import Window, lowest, pad, window

BYTES_AS_FLOAT = {"int8": "float32", "uint8": "float32"}


@op("MaxPool", instead=BYTES_AS_FLOAT)
def max_pool(walk: Any, node: NodeView) -> Symbol | list[Symbol]:
    """``mx.sym.Pooling`` of type max; by slices where it has no such window or the indices are asked for."""
    win = window(walk, node, list(node["kernel_shape"]))
    x, value = walk.value(node.required(0)), node.required(0)
    wants_indices = len(node.outputs) > 1 and bool(node.outputs[1].name)
    if not wants_indices and not walk.variant.nan_safe and _is_native(walk, value, win):
        return _pool(node, x, win, "max")
    if not wants_indices and not walk.variant.nan_safe and _is_native_padded(walk, value, win):
        return _pool(node, pad(x, win.begin, win.end, lowest(walk.dtype(value))), _unpadded(win), "max")
    x, plain = _fitted(walk, value, x, win, lowest(walk.dtype(value)))
    taps = _taps(walk, node, x, plain)
    largest = functools.reduce(mx.sym.broadcast_maximum, taps)
    return [largest, _indices(walk, node, taps, win)] if wants_indices else largest


def _indices(walk: Any, node: NodeView, taps: list[Symbol], win: Window) -> Symbol:
    """Return where in the whole input the maximum of each window stands, int64; the first of several."""
    sizes, counts = walk.sizes(node.required(0)), walk.spatial(node.outputs[0])
    tap = numpy_op("argmax", mx.sym.stack(*taps, axis=0), axis=0)
    place = mx.sym.gather_nd(
        walk.constant(node, "places", _places(node, win, sizes[2:], counts)), _window_of(walk, node, tap)
    )
    planes = np.arange(sizes[0] * sizes[1]).reshape(*sizes[:2], *[1] * win.rank) * math.prod(sizes[2:])
    return mx.sym.broadcast_add(place, walk.constant(node, "planes", planes))


def _places(node: NodeView, win: Window, sizes: list[int], counts: list[int]) -> np.ndarray:
    """Return the place in a plane of ``sizes`` of each tap of each window: shape (taps, *counts)."""
    order = "F" if node.get("storage_order", 0) else "C"
    offsets = np.array(list(itertools.product(*map(range, win.kernel)))) * win.dilations
    starts = np.moveaxis(np.indices(counts), 0, -1) * win.strides - win.begin
    at = np.moveaxis(starts + offsets.reshape(len(offsets), *[1] * win.rank, win.rank), -1, 0)
    bounds = np.array(sizes).reshape(-1, *[1] * (win.rank + 1)) - 1
    return np.ravel_multi_index(tuple(np.clip(at, 0, bounds)), sizes, order=order).astype(np.int64)


def _window_of(walk: Any, node: NodeView, tap: Symbol) -> Symbol:
    """Return coordinates (1 + spatial axes, *output) into the table of places: the tap, then the window."""
    sizes = walk.sizes(node.outputs[0])
    grid = np.indices(sizes)[2:]
    rows = [walk.constant(node, f"window{i}", each.astype(np.int64)) for i, each in enumerate(grid)]
    return mx.sym.stack(tap, *rows, axis=0)


@op("AveragePool")
def average_pool(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Pooling`` of type avg; elsewhere the sum over each window divided by the number of its elements."""
    win = window(walk, node, list(node["kernel_shape"]))
    x, value = walk.value(node.required(0)), node.required(0)
    counted = bool(node["count_include_pad"])
    if _is_native(walk, value, win):
        return _pool(node, x, win, "avg", count_include_pad=counted)
    ones = mx.sym.ones_like(x)
    if counted:
        ones = pad(ones, win.begin, win.end, 1.0)
        x = pad(x, win.begin, win.end)
        sizes = [n + b + e for n, b, e in zip(walk.spatial(value), win.begin, win.end, strict=True)]
        beyond = win.end_to_fit(walk.spatial(value))
        ends = [e - given for e, given in zip(beyond, win.end, strict=True)]
        x, ones = pad(x, [0] * win.rank, ends), pad(ones, [0] * win.rank, ends)
        sizes = [n + e for n, e in zip(sizes, ends, strict=True)]
    else:
        ones, _ = _fitted(walk, value, ones, win, 0.0)
        x, _ = _fitted(walk, value, x, win, 0.0)
    plain = _unpadded(win)
    total = functools.reduce(mx.sym.broadcast_add, _taps(walk, node, x, plain))
    count = functools.reduce(mx.sym.broadcast_add, _taps(walk, node, ones, plain))
    return mx.sym.broadcast_div(total, count, name=node.name)


@op("LpPool")
def lp_pool(walk: Any, node: NodeView) -> Symbol:
    """(Σ |x|ᵖ)^(1/p) over each window, by slices: MXNet's own takes the padding's and p's other way."""
    win = window(walk, node, list(node["kernel_shape"]))
    x = mx.sym.abs(walk.value(node.required(0))) ** node["p"]
    x, win = _fitted(walk, node.required(0), x, win, 0.0)
    return functools.reduce(mx.sym.broadcast_add, _taps(walk, node, x, win)) ** (1.0 / node["p"])


@op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Pooling`` over all spatial axes (1 to 3)."""
    rank = walk.rank(node.required(0)) - 2
    kind = "avg" if node.op == "GlobalAveragePool" else "max"
    x = walk.value(node.required(0))
    if rank not in (1, 2, 3) or (kind == "max" and walk.variant.nan_safe):
        reduction = mx.sym.mean if kind == "avg" else mx.sym.max
        return reduction(x, axis=tuple(range(2, rank + 2)), keepdims=True, name=node.name)
    return mx.sym.Pooling(x, kernel=[1] * rank, global_pool=True, pool_type=kind, name=node.name)


@op("GlobalLpPool")
def global_lp_pool(walk: Any, node: NodeView) -> Symbol:
    """(Σ |x|ᵖ)^(1/p) over all spatial axes."""
    axes = tuple(range(2, walk.rank(node.required(0))))
    powers = mx.sym.abs(walk.value(node.required(0))) ** node["p"]
    return mx.sym.sum(powers, axis=axes, keepdims=True) ** (1.0 / node["p"])


def _is_native(walk: Any, value: Any, win: Window) -> bool:
    plain = win.is_symmetric and set(win.dilations) == {1} and win.rank in (1, 2, 3)
    padded_less_than_kernel = all(p < k for p, k in zip(win.begin, win.kernel, strict=True))
    return plain and padded_less_than_kernel and _ceil_agrees(walk, value, win)


def _is_native_padded(walk: Any, value: Any, win: Window) -> bool:
    """Whether MXNet's layer pools a map of free sizes once it is padded."""
    return None in walk.static_shape(value)[2:] and not win.ceil and set(win.dilations) == {1} and win.rank in (1, 2, 3)


def _ceil_agrees(walk: Any, value: Any, win: Window) -> bool:
    """Whether MXNet's 'full' has as many windows: it keeps one that starts in the end padding, ONNX does not."""
    if not win.ceil or all(s + p <= k for s, p, k in zip(win.strides, win.begin, win.kernel, strict=True)):
        return True
    sizes = walk.spatial(value)
    full = [-(-(n + 2 * p - k) // s) + 1 for n, p, k, s in zip(sizes, win.begin, win.kernel, win.strides, strict=True)]
    return full == win.output_sizes(sizes)


def _pool(node: NodeView, x: Symbol, win: Window, kind: str, **attributes: Any) -> Symbol:
    return mx.sym.Pooling(
        x,
        kernel=win.kernel,
        stride=win.strides,
        pad=win.begin,
        pool_type=kind,
        pooling_convention="full" if win.ceil else "valid",
        name=node.name,
        **attributes,
    )


def _unpadded(win: Window) -> Window:
    none = [0] * win.rank
    return Window(win.kernel, win.strides, win.dilations, none, none)


def _fitted(walk: Any, value: Any, x: Symbol, win: Window, fill: float) -> tuple[Symbol, Window]:
    """Pad x so that every window is complete and none needs padding."""
    return pad(x, win.begin, win.end_to_fit(walk.spatial(value)), fill), _unpadded(win)


def _taps(walk: Any, node: NodeView, x: Symbol, win: Window) -> list[Symbol]:
    """Return, for each tap of the window, x at that tap of every window: shape (N, C, *output)."""
    counts = walk.spatial(node.outputs[0])
    return [
        mx.sym.slice(
            x,
            begin=[None, None, *offset],
            end=[None, None, *(o + (n - 1) * s + 1 for o, n, s in zip(offset, counts, win.strides, strict=True))],
            step=[None, None, *win.strides],
        )
        for offset in itertools.product(*(range(0, k * d, d) for k, d in zip(win.kernel, win.dilations, strict=True)))
    ]
