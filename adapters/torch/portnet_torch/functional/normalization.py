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


def instance_norm(x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each sample over its places, of which there may be one."""
    return torch.group_norm(x, x.shape[1], scale, bias, eps)


def lp_normalize(x: Tensor, p: int, axis: int) -> Tensor:
    """Divide by the p-norm along ``axis``; zero where the norm is zero."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor | None, dims: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise the last ``dims`` axes in float32 at least; return the result, the mean and 1/standard deviation."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    axes = list(range(-dims, 0))
    mean = wide.mean(axes, keepdim=True)
    centred = wide - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    y = (centred * inverse).to(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


def rms_norm(x: Tensor, scale: Tensor, dims: int, eps: float) -> Tensor:
    """Divide the last ``dims`` axes by their root mean square, computed in float32 at least, and scale."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    square = (wide * wide).mean(list(range(-dims, 0)), keepdim=True)
    return (wide * torch.rsqrt(square + eps)).to(scale.dtype) * scale
