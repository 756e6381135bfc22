"""Fourier transforms on ONNX's complex numbers: a last axis of real and imaginary part."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dft(x: Tensor, length: int | None, axis: int, inverse: bool, onesided: bool) -> Tensor:
    """Transform along an axis; x (…, 1) is real, (…, 2) complex; an inverse one-sided transform is real."""
    axis = axis + x.ndim if axis < 0 else axis
    full = torch.promote_types(x.dtype, torch.float32)
    signal = x[..., 0].to(full) if x.size(-1) == 1 else torch.view_as_complex(x.to(full).contiguous())
    if inverse and onesided:
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1).to(x.dtype)
    result = (torch.fft.ifft if inverse else torch.fft.fft)(signal, length, axis)
    if onesided:
        result = result.narrow(axis, 0, result.size(axis) // 2 + 1)
    return torch.view_as_real(result).to(x.dtype)


def stft(x: Tensor, step: int, window: Tensor | None, length: int | None, onesided: bool) -> Tensor:
    """Transform frames (N, frames, bins, 2) of a signal (N, T, 1 or 2) under a window."""
    if length is None:
        assert window is not None
        length = window.numel()
    frames = x.unfold(1, length, step).movedim(-1, 2)
    if window is not None:
        frames = frames * window.reshape(1, 1, -1, 1).to(x.dtype)
    return dft(frames, length, 2, False, onesided)


def mel_weight_matrix(
    mels: int, length: int, rate: int, lowest: float, highest: float, dtype: torch.dtype
) -> Tensor:  # fmt: skip
    """Return triangular weights (length // 2 + 1, mels) evenly spaced on the mel scale, 2595·log10(1 + f/700)."""
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (lowest, highest))
    step = (high - low) / (mels + 2)
    hertz = [700 * (10 ** ((low + i * step) / 2595) - 1) for i in range(mels + 2)]
    bins = [int((length + 1) * f // rate) for f in hertz]
    result = torch.zeros(length // 2 + 1, mels, dtype=torch.float64)
    for i, (left, centre, right) in enumerate(zip(bins, bins[1:], bins[2:])):  # noqa: B905
        if left == centre:
            result[centre, i] = 1
        for j in range(left, centre + 1):
            result[j, i] = (j - left) / (centre - left) if centre > left else 1
        for j in range(centre, right):
            result[j, i] = (right - j) / (right - centre)
    return result.to(dtype)
