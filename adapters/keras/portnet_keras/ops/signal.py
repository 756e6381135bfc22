"""Fourier transforms as products with their matrices, and the mel filter bank."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.ops.registry import op

__all__: list[str] = []


def _matrices(n: int, sign: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    angles = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
    return np.cos(angles).astype(dtype), (sign * np.sin(angles)).astype(dtype)


def _transformed(x: Any, n: int, sign: int) -> Any:
    """Transform x (..., m, 1 or 2) along its last axis but one, cut or padded to n; return (..., n, 2)."""
    size = x.shape[-2]
    if size < n:
        x = ops.pad(x, [(0, 0)] * (len(x.shape) - 2) + [(0, n - size), (0, 0)])
    x = x[..., :n, :]
    cos, sin = _matrices(n, sign, keras.backend.standardize_dtype(x.dtype))
    real = x[..., 0]
    if x.shape[-1] == 1:
        return ops.stack([ops.matmul(real, cos), ops.matmul(real, sin)], axis=-1)
    imaginary = x[..., 1]
    return ops.stack(
        [
            ops.subtract(ops.matmul(real, cos), ops.matmul(imaginary, sin)),
            ops.add(ops.matmul(real, sin), ops.matmul(imaginary, cos)),
        ],
        axis=-1,
    )


@op("DFT")
def dft(walk: Any, node: NodeView) -> Any:
    """Discrete Fourier transform along an axis."""
    x = walk.plain(node.required(0))
    axis = -2 if node.input(2) is None else int(walk.host(node.input(2)).item())
    axis = axis % len(x.shape)
    inverse, onesided = bool(node["inverse"]), bool(node["onesided"])
    size = x.shape[axis]
    n = size if node.input(1) is None else int(walk.host(node.input(1)).item())
    if n is None:
        raise walk.unsupported("a free size")
    x = ops.moveaxis(x, axis, -2)
    if inverse and onesided:
        n = 2 * (size - 1) if node.input(1) is None else n
        return ops.moveaxis(_inverse_of_half(x, n), -2, axis)
    y = _transformed(x, n, 1 if inverse else -1)
    if inverse:
        y = ops.divide(y, float(n))
    if onesided:
        y = y[..., : n // 2 + 1, :]
    return ops.moveaxis(y, -2, axis)


def _inverse_of_half(x: Any, n: int) -> Any:
    """Return the real signal (..., n, 1) whose spectrum begins with x (..., n // 2 + 1, 2) and is symmetric."""
    half = x[..., : n // 2 + 1, :]
    mirrored = ops.flip(half[..., 1 : (n + 1) // 2, :], axis=-2)
    conjugate = ops.multiply(mirrored, np.array([1, -1], keras.backend.standardize_dtype(x.dtype)))
    whole = ops.concatenate([half, conjugate], axis=-2)
    return ops.divide(_transformed(whole, n, 1)[..., :1], float(n))


@op("STFT")
def stft(walk: Any, node: NodeView) -> Any:
    """Fourier transforms of windowed frames."""
    signal, step = walk.plain(node.required(0)), int(walk.host(node.input(1)).item())
    window = walk.optional_plain(node.input(2))
    length = window.shape[0] if node.input(3) is None else int(walk.host(node.input(3)).item())
    if signal.shape[1] is None:
        raise walk.unsupported("a free length")
    signal = signal if len(signal.shape) == 3 else ops.expand_dims(signal, -1)
    count = (signal.shape[1] - length) // step + 1
    frames = ops.take(signal, np.arange(count)[:, None] * step + np.arange(length), axis=1)
    if window is not None:
        frames = ops.multiply(frames, ops.reshape(window, (-1, 1)))
    y = _transformed(frames, length, -1)
    return y[..., : length // 2 + 1, :] if node["onesided"] else y


@op("MelWeightMatrix")
def mel_weight_matrix(walk: Any, node: NodeView) -> Any:
    """Triangular filters, evenly spaced on the mel scale 2595 · log10(1 + f / 700)."""
    bins, length, rate, low, high = (walk.host(value).item() for value in node.inputs)
    columns = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (low, high)), bins + 2)
    step = (columns[-1] - columns[0]) / (bins + 2)
    mels = columns[0] + np.arange(bins + 2) * step
    places = np.floor((length + 1) * (700 * (10 ** (mels / 2595) - 1)) / rate).astype(int)
    result = np.zeros((length // 2 + 1, bins))
    for i, (left, centre, right) in enumerate(zip(places, places[1:], places[2:], strict=False)):
        rows = np.arange(left, centre + 1)
        result[rows, i] = 1 if centre == left else (rows - left) / (centre - left)
        rows = np.arange(centre, right)
        if right > centre:
            result[rows, i] = (right - rows) / (right - centre)
    return result.astype(np.float32)
