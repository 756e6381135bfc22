"""Arithmetic where torch means something else than ONNX, or nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def clip(x: Tensor, low: Tensor | float | None = None, high: Tensor | float | None = None) -> Tensor:
    """Limit to [low, high]; where low > high the result is high."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def equal(a: Tensor, b: Tensor) -> Tensor:
    """Compare elements; strings, numpy object arrays, too."""
    if isinstance(a, Tensor):
        return a == b
    return torch.as_tensor((a == b).astype(bool))


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Return base**exponent in the type of the base."""
    if base.dtype == exponent.dtype and base.is_floating_point():
        return torch.pow(base, exponent)
    if not base.is_floating_point() and not exponent.is_floating_point():
        return torch.pow(base.long(), exponent.long()).to(base.dtype)
    return torch.pow(base.double(), exponent.double()).to(base.dtype)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)) without torch's threshold."""
    return torch.logaddexp(x, torch.zeros_like(x))


def nowhere(x: Tensor) -> Tensor:
    """Return False for every element."""
    return torch.zeros_like(x, dtype=torch.bool)


def flip_top_bit(x: Tensor) -> Tensor:
    """Map the int64 bits of uint64 so that signed order is unsigned order; it is its own inverse."""
    return x ^ torch.iinfo(torch.int64).min


def unsigned_right_shift(x: Tensor, bits: Tensor) -> Tensor:
    """Shift the int64 bits of uint64 to the right, zeros following."""
    mask = torch.bitwise_not(torch.bitwise_left_shift(torch.full_like(x, -1), 64 - bits))
    return torch.where(bits == 0, x, torch.bitwise_right_shift(x, bits) & mask)


def unsigned_divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide the int64 bits of uint64, rounding down (Warren, Hacker's Delight, 9-3)."""
    flip = torch.iinfo(torch.int64).min
    half = ((a >> 1) & torch.iinfo(torch.int64).max).div(b.clamp(min=1), rounding_mode="trunc") << 1
    half = half + (((a - half * b) ^ flip) >= (b ^ flip))
    whole = torch.div(a, torch.where(b == 0, 1, b), rounding_mode="trunc")
    return torch.where(b < 0, ((a ^ flip) >= (b ^ flip)).to(a.dtype), torch.where(a < 0, half, whole))


def unsigned_remainder(a: Tensor, b: Tensor) -> Tensor:
    """Return a mod b of the int64 bits of uint64."""
    return a - unsigned_divide(a, b) * b
