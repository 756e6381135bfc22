"""Resize along any axes, one axis at a time, with every option of ONNX."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def resize(
    x: Tensor,
    axes: list[int],
    sizes: list[int] | None,
    scales: list[float] | None,
    mode: str,
    coordinates: str,
    nearest: str,
    cubic_a: float,
    exclude_outside: bool,
    extrapolation: float,
    antialias: bool,
    policy: str,
    roi: list[float] | None,
) -> Tensor:
    """Resize ``axes`` of x to ``sizes``, or by ``scales``; interpolation is separable."""
    dtype = x.dtype
    lengths = [x.size(axis) for axis in axes]
    if sizes is not None:
        scales = [size / length for size, length in zip(sizes, lengths, strict=True)]
        if policy != "stretch":
            scale = (min if policy == "not_larger" else max)(scales)
            scales = [scale] * len(axes)
            sizes = [math.floor(scale * length + 0.5) for length in lengths]
    else:
        assert scales is not None
        sizes = [math.floor(scale * length) for scale, length in zip(scales, lengths, strict=True)]
    outside: list[tuple[int, Tensor]] = []
    y = x if mode == "nearest" else x.to(torch.promote_types(dtype, torch.float32))
    for i, axis in enumerate(axes):
        if sizes[i] == lengths[i] and scales[i] == 1.0 and roi is None:
            continue
        corners = None if roi is None else (roi[i], roi[i + len(axes)])
        places = _coordinates(sizes[i], lengths[i], scales[i], coordinates, corners).to(x.device)
        if roi is not None:
            outside.append((axis, (places < 0) | (places > lengths[i] - 1)))
        if mode == "nearest":
            y = y.index_select(axis, _nearest(places, nearest).clamp(0, lengths[i] - 1))
            continue
        reach = min(scales[i], 1.0) if antialias else 1.0
        indices, weights = _taps(places, mode, cubic_a, reach)
        if exclude_outside:
            weights = torch.where((indices < 0) | (indices >= lengths[i]), torch.zeros_like(weights), weights)
        weights = (weights / weights.sum(0)).to(y.dtype) if exclude_outside or antialias else weights.to(y.dtype)
        y = _combine(y, axis, indices.clamp(0, lengths[i] - 1), weights)
    for axis, beyond in outside:
        shape = [1] * y.ndim
        shape[axis] = -1
        y = torch.where(beyond.reshape(shape), torch.full_like(y, extrapolation), y)
    if dtype.is_floating_point:
        return y.to(dtype)
    return y if y.dtype == dtype else y.round().clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


def _coordinates(
    size: int, length: int, scale: float, mode: str, corners: tuple[float, float] | None
) -> Tensor:  # fmt: skip
    """Return where in the input each output element lies, float64."""
    out = torch.arange(size, dtype=torch.float64)
    exact = scale * length
    if mode == "asymmetric":
        return out / scale
    if mode == "align_corners":
        return out * 0 if exact == 1 else out * (length - 1) / (exact - 1)
    if mode == "tf_crop_and_resize":
        assert corners is not None
        start, end = corners
        if exact == 1:
            return out * 0 + (start + end) * (length - 1) / 2
        return start * (length - 1) + out * (end - start) * (length - 1) / (exact - 1)
    if mode == "pytorch_half_pixel" and exact == 1:
        return out * 0 - 0.5
    offset = length / 2 * (1 - size / exact) if mode == "half_pixel_symmetric" else 0.0
    return offset + (out + 0.5) / scale - 0.5


def _nearest(places: Tensor, mode: str) -> Tensor:
    if mode == "round_prefer_floor":
        return torch.ceil(places - 0.5).long()
    if mode == "round_prefer_ceil":
        return torch.floor(places + 0.5).long()
    return (torch.floor(places) if mode == "floor" else torch.ceil(places)).long()


def _taps(places: Tensor, mode: str, a: float, reach: float) -> tuple[Tensor, Tensor]:
    """Return indices and weights (taps, outputs) of the neighbours; ``reach`` below 1 widens the kernel."""
    radius = 1 if mode == "linear" else 2
    half = math.ceil(radius / reach)
    offsets = torch.arange(-half + 1, half + 1, device=places.device).unsqueeze(1)
    base = torch.floor(places)
    indices = base + offsets
    distance = ((indices - places) * reach).abs()
    if mode == "linear":
        weights = (1 - distance).clamp(min=0)
    else:
        near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    return indices.long(), weights


def _combine(x: Tensor, axis: int, indices: Tensor, weights: Tensor) -> Tensor:
    shape = [1] * x.ndim
    shape[axis] = -1
    parts = (x.index_select(axis, i) * w.reshape(shape) for i, w in zip(indices, weights, strict=True))
    total = next(parts)
    for part in parts:
        total = total + part
    return total
