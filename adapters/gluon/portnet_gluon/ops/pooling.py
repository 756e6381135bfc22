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
from portnet_gluon.ops.windows import Window, lowest, pad, sliced, windowed

BYTES_AS_FLOAT = {"int8": "float32", "uint8": "float32"}


@op("MaxPool", instead=BYTES_AS_FLOAT)
def max_pool(walk: Any, node: NodeView) -> Symbol | list[Symbol]:
    """``mx.sym.Pooling`` of type max; by slices where it has no such window or the indices are asked for."""
    value = node.required(0)
    fill = lowest(walk.dtype(value))
    x, win = windowed(walk, node, walk.value(value), list(node["kernel_shape"]), fill)
    wants_indices = len(node.outputs) > 1 and bool(node.outputs[1].name)
    by_layer = not wants_indices and not walk.variant.nan_safe
    if by_layer and _is_native(walk, value, win):
        return _pool(node, x, win, "max")
    x, plain = _fitted(walk, value, x, win, fill)
    if by_layer and _has_layer(plain):
        return _pool(node, x, plain, "max")
    taps = _taps(walk, value, x, win, plain)
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
    value, kernel = node.required(0), list(node["kernel_shape"])
    given, counted = walk.value(value), bool(node["count_include_pad"])
    x, win = windowed(walk, node, given, kernel)
    if _is_native(walk, value, win) and (x is given or counted):
        return _pool(node, x, win, "avg", count_include_pad=counted)
    total = _mean(walk, node, x, win)
    if counted and not win.ceil:
        return total
    ones = mx.sym.ones_like(sliced(given, [0, 0], [1, 1], [None, None]))
    ones, _ = windowed(walk, node, ones, kernel, float(counted))
    if counted:
        ones = pad(ones, win.begin, win.end, 1.0)
    return mx.sym.broadcast_div(total, _mean(walk, node, ones, win, padded=counted), name=f"{node.name}_mean")


def _mean(walk: Any, node: NodeView, x: Symbol, win: Window, padded: bool = False) -> Symbol:
    """Return the mean of each window, all padding counted; ``padded`` says that x bears the stated padding already."""
    value = node.required(0)
    ends, plain = _ends(walk, value, win), _unpadded(win)
    x = (
        pad(x, [0] * win.rank, [e - b for e, b in zip(ends, win.end, strict=True)])
        if padded
        else pad(x, win.begin, ends)
    )
    if _has_layer(plain):
        return _pool(node, x, plain, "avg")
    taps = _taps(walk, value, x, win, plain)
    return functools.reduce(mx.sym.broadcast_add, taps) / len(taps)


@op("LpPool")
def lp_pool(walk: Any, node: NodeView) -> Symbol:
    """(Σ |x|ᵖ)^(1/p) over each window, by slices: MXNet's own takes the padding's and p's other way."""
    x = mx.sym.abs(walk.value(node.required(0))) ** node["p"]
    x, win = windowed(walk, node, x, list(node["kernel_shape"]))
    x, plain = _fitted(walk, node.required(0), x, win, 0.0)
    taps = _taps(walk, node.required(0), x, win, plain)
    return functools.reduce(mx.sym.broadcast_add, taps) ** (1.0 / node["p"])


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


def _has_layer(win: Window) -> bool:
    """Whether MXNet's layer has such windows, once the data are padded."""
    return set(win.dilations) == {1} and win.rank in (1, 2, 3)


def _is_native(walk: Any, value: Any, win: Window) -> bool:
    padded_less_than_kernel = all(p < k for p, k in zip(win.begin, win.kernel, strict=True))
    return _has_layer(win) and win.is_symmetric and padded_less_than_kernel and _ceil_agrees(walk, value, win)


def _ceil_agrees(walk: Any, value: Any, win: Window) -> bool:
    """Whether MXNet's 'full' has as many windows: it keeps one that starts in the end padding, ONNX does not."""
    if not win.ceil or all(s + p <= k for s, p, k in zip(win.strides, win.begin, win.kernel, strict=True)):
        return True
    sizes = walk.static_shape(value)[2:]
    if None in sizes:
        return False
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
    return pad(x, win.begin, _ends(walk, value, win), fill), _unpadded(win)


def _ends(walk: Any, value: Any, win: Window) -> list[int]:
    """Return the end padding with which as many windows are complete as ONNX counts."""
    sizes = walk.static_shape(value)[2:]
    if None in sizes:
        return win.end_to_close()
    return [max(fit, end) for fit, end in zip(win.end_to_fit(sizes), win.end, strict=True)]


def _taps(walk: Any, value: Any, x: Symbol, win: Window, plain: Window) -> list[Symbol]:
    """Return, for each tap of the window, padded x at that tap of every window: shape (N, C, *output)."""
    sizes = walk.static_shape(value)[2:]
    free = tuple(axis for axis, size in enumerate(sizes, start=2) if size is None)
    counts = [None if size is None else win.count(i, size) for i, size in enumerate(sizes)]
    taps = [
        mx.sym.slice(
            x,
            begin=[None, None, *offset],
            end=[
                None,
                None,
                *(n and o + (n - 1) * s + 1 for o, n, s in zip(offset, counts, plain.strides, strict=True)),
            ],
            step=[None, None, *plain.strides],
        )
        for offset in itertools.product(*(range(0, k * d, d) for k, d in zip(win.kernel, win.dilations, strict=True)))
    ]
    # of a free size the last tap of a window tells how many windows there are
    return [mx.sym.slice_like(tap, taps[-1], axes=free) for tap in taps[:-1]] + taps[-1:] if free else taps
