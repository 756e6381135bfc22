"""Quantisation, and integer products that are exact because they are summed in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def spread(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Shape a scale or zero point to x: one number, one for each index of ``axis``, or one for each block."""
    if parameter.numel() == 1 and parameter.ndim < 2:
        return parameter.reshape(())
    if block:
        axis = axis % x.ndim
        places = torch.arange(x.size(axis), device=x.device) // block
        return parameter.index_select(axis, places)
    if parameter.ndim == 1:
        shape = [1] * x.ndim
        shape[axis] = -1
        return parameter.reshape(shape)
    return parameter


def divide(x: Tensor, scale: Tensor, axis: int, block: int, precision: torch.dtype) -> Tensor:
    """Return x / scale in ``precision``."""
    scale = scale.to(torch.float32) if "float8" in str(scale.dtype) else scale
    return x.to(precision) / spread(scale, x, axis, block).to(precision)


def quantize(
    x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int, low: int, high: int,
    dtype: torch.dtype, precision: torch.dtype,
) -> Tensor:  # fmt: skip
    """Return round(x / scale) + zero, limited to [low, high]; ties go to even."""
    whole = torch.round(divide(x, scale, axis, block, precision)).to(torch.float64)
    if zero is not None:
        whole = whole + spread(zero, x, axis, block).to(torch.float64)
    return whole.clamp(low, high).to(dtype)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int, dtype: torch.dtype) -> Tensor:
    """Return (x − zero)·scale in the type of the scale."""
    small = "float8" in str(x.dtype)
    scale = scale.to(torch.float32) if "float8" in str(scale.dtype) else scale
    x = x.to(torch.float32) if x.is_floating_point() or small else x.to(torch.int64)
    if zero is not None:
        x = x - spread(zero, x, axis, block).to(x.dtype)
    factor = spread(scale, x, axis, block)
    return (x.to(torch.float32) * factor.to(torch.float32)).to(dtype) if dtype != scale.dtype else x.to(dtype) * factor


def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise to uint8 over the range of x and zero; return the result, its scale and zero point."""
    low, high = x.amin().clamp(max=0.0), x.amax().clamp(min=0.0)
    scale = (high - low) / 255
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round((-low / safe).clamp(0, 255))
    return (torch.round(x / safe) + zero).clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def centre(x: Tensor, zero: Tensor | None, axis: int | None = None) -> Tensor:
    """Return x − zero in float64; a zero point for each index of ``axis`` is spread over it."""
    x = x.to(torch.float64)
    if zero is None:
        return x
    zero = zero.to(torch.float64)
    if axis is not None and zero.numel() > 1:
        zero = zero.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return x - zero


def conv_integer(
    x: Tensor, weight: Tensor, strides: int | list[int], pads: int | list[int], dilations: int | list[int], groups: int
) -> Tensor:
    """Convolve whole numbers held in float64, exactly; return int32."""
    function = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    return function(x, weight, None, strides, pads, dilations, groups).round().to(torch.int32)


def _rows(zero: Tensor, a: Tensor) -> Tensor:
    return zero.unsqueeze(-1) if zero.ndim >= 1 and zero.numel() > 1 and zero.ndim < a.ndim else zero


def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """Return (a − a_zero) @ (b − b_zero) as int32; a zero point a row of a, a column of b."""
    left, right = a.to(torch.float64), b.to(torch.float64)
    left = left if a_zero is None else left - _rows(a_zero, a).to(torch.float64)
    right = right if b_zero is None else right - b_zero.to(torch.float64)
    return torch.matmul(left, right).to(torch.int32)


def qlinear_matmul(
    a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor,
    y_scale: Tensor, y_zero: Tensor, low: int, high: int, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Multiply quantised matrices and quantise the product."""
    total = torch.matmul(a.double() - _rows(a_zero, a).double(), b.double() - b_zero.double())
    factor = _rows(a_scale, a).double() * b_scale.double() / y_scale.double()
    return (torch.round(total * factor) + y_zero.double()).clamp(low, high).to(dtype)


def requantize(
    total: Tensor, x_scale: Tensor, w_scale: Tensor, y_scale: Tensor, y_zero: Tensor, bias: Tensor | None,
    low: int, high: int, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Add a bias to an integer convolution and quantise it; one weight scale for all or one a channel."""
    shape = [1, -1, *[1] * (total.ndim - 2)]
    if bias is not None:
        total = total + bias.reshape(shape)
    factor = x_scale.double() * w_scale.double().reshape(shape if w_scale.numel() > 1 else []) / y_scale.double()
    return (torch.round(total.double() * factor) + y_zero.double()).clamp(low, high).to(dtype)
