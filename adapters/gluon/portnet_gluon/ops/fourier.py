"""DFT and STFT as products with matrices of cosines and sines, computed here."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, op
from portnet_gluon.ops.shape import dropped


@op("DFT")
def dft(walk: Any, node: NodeView) -> Symbol:
    """The transform along one axis; the last axis holds the real part and the imaginary, if there is one."""
    value = node.required(0)
    rank, shape = walk.rank(value), walk.sizes(value)
    axis = (walk.host_ints(node.required(2))[0] if node.input(2) is not None else rank - 2) % rank
    length = walk.host_ints(node.required(1))[0] if node.input(1) is not None else shape[axis]
    if node["inverse"] and node["onesided"]:
        return _real_inverse(walk, node, axis)
    taken = min(length, shape[axis])
    parts = _parts(walk.value(value), shape[-1], axis, rank, taken)
    forward = np.exp(-2j * np.pi * np.outer(np.arange(taken), np.arange(length)) / length)
    matrix = forward.conj() / length if node["inverse"] else forward
    if node["onesided"]:
        matrix = matrix[:, : length // 2 + 1]
    real, imaginary = _product(walk, node, parts, matrix)
    return mx.sym.stack(*(mx.sym.swapaxes(y, dim1=axis, dim2=rank - 2) for y in (real, imaginary)), axis=-1)


def _real_inverse(walk: Any, node: NodeView, axis: int) -> Symbol:
    """Return the real signal (..., 1) whose spectrum is conjugate symmetric and given by its first half."""
    value = node.required(0)
    rank, shape = walk.rank(value), walk.sizes(value)
    length = walk.host_ints(node.required(1))[0] if node.input(1) is not None else 2 * (shape[axis] - 1)
    bins = min(shape[axis], length // 2 + 1)
    # every bin but the first, and the last of an even length, stands for its mirror image too
    counts = np.array([1 if 2 * k in (0, length) else 2 for k in range(bins)])
    turns = np.exp(2j * np.pi * np.outer(np.arange(bins), np.arange(length)) / length) * counts[:, None] / length
    real, _ = _product(walk, node, _parts(walk.value(value), 2, axis, rank, bins), turns)
    return mx.sym.expand_dims(mx.sym.swapaxes(real, dim1=axis, dim2=rank - 2), axis=-1)


def _parts(x: Symbol, count: int, axis: int, rank: int, taken: int) -> list[Symbol]:
    """Return the real and maybe the imaginary part, the first ``taken`` samples of ``axis`` moved to the end."""
    arrays = []
    for i in range(count):
        part = dropped(mx.sym.slice_axis(x, axis=-1, begin=i, end=i + 1), (rank - 1,))
        along = mx.sym.swapaxes(part, dim1=axis, dim2=rank - 2)
        arrays.append(mx.sym.slice_axis(along, axis=-1, begin=0, end=taken))
    return arrays


def _product(walk: Any, node: NodeView, parts: list[Symbol], matrix: np.ndarray) -> tuple[Symbol, Symbol]:
    """Return real and imaginary part of parts · matrix along the last axis."""
    dtype = walk.dtype(node.required(0))
    cosine = walk.constant(node, "real", matrix.real.astype(dtype))
    sine = walk.constant(node, "imaginary", matrix.imag.astype(dtype))
    real, imaginary = mx.sym.dot(parts[0], cosine), mx.sym.dot(parts[0], sine)
    if len(parts) == 1:
        return real, imaginary
    return real - mx.sym.dot(parts[1], sine), imaginary + mx.sym.dot(parts[1], cosine)


@op("STFT")
def stft(walk: Any, node: NodeView) -> Symbol:
    """Frames of a real signal (N, T[, 1]), weighted by the window, times the matrix of the transform."""
    value = node.required(0)
    shape, step = walk.sizes(value), walk.host_ints(node.required(1))[0]
    if len(shape) == 3 and shape[2] != 1:
        raise walk.unsupported("signal: got a complex one")
    window = walk.optional(node.input(2))
    length = _frame_length(walk, node)
    starts = np.arange(0, shape[1] - length + 1, step)
    places = walk.constant(node, "places", (starts[:, None] + np.arange(length)).astype(np.int64))
    signal = mx.sym.reshape(walk.value(value), shape=shape[:2])
    frames = mx.sym.take(signal, places, axis=1)
    if window is not None:
        frames = mx.sym.broadcast_mul(frames, window)
    count = length // 2 + 1 if node["onesided"] else length
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(length), np.arange(count)) / length)
    return mx.sym.stack(*_product(walk, node, [frames], matrix), axis=-1)


def _frame_length(walk: Any, node: NodeView) -> int:
    if node.input(3) is not None:
        return int(walk.host_ints(node.required(3))[0])
    return int(walk.sizes(node.required(2))[0])
