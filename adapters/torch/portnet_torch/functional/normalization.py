"""Normalisations as ONNX defines them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def batch_norm(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Normalise by running statistics; the types of scale and statistics may differ from x's."""
    shape = [1, -1, *[1] * (x.ndim - 2)]
    factor = scale.to(var.dtype) * torch.rsqrt(var + eps)
    shifted = (x.to(var.dtype) - mean.reshape(shape)) * factor.reshape(shape) + bias.to(var.dtype).reshape(shape)
    return shifted.to(x.dtype)


def batch_norm_training(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, momentum: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the batch; return the result and the new running mean and (biased) variance."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    batch_mean, batch_var = x.to(mean.dtype).mean(axes), x.to(var.dtype).var(axes, unbiased=False)
    normal = (x - batch_mean.reshape(shape)) * torch.rsqrt(batch_var + eps).reshape(shape)
    result = (normal * scale.reshape(shape) + bias.reshape(shape)).to(x.dtype)
    return result, mean * momentum + batch_mean * (1 - momentum), var * momentum + batch_var * (1 - momentum)


def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Divide by (bias + alpha/size · sum of squares over ``size`` neighbouring channels)**beta."""
    squares = F.pad((x * x).transpose(1, -1), [(size - 1) // 2, size // 2])
    total = squares.unfold(-1, size, 1).sum(-1).transpose(1, -1)
    return x / (bias + alpha / size * total) ** beta


def lp_normalize(x: Tensor, p: int, axis: int) -> Tensor:
    """Divide by the p-norm along ``axis``; zero where the norm is zero."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)
