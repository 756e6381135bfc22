"""Activations that torch lacks or writes with fixed constants."""

from __future__ import annotations

import torch
from torch import Tensor


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return gamma·(x where x > 0, else alpha·(exp(x) − 1))."""
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x))


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Return alpha·x + beta limited to [0, 1]."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def shrink(x: Tensor, lambd: float, bias: float) -> Tensor:
    """Move towards zero by ``bias`` what lies outside ±lambd; the rest is zero."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x))).to(x.dtype)


def swish(x: Tensor, alpha: float) -> Tensor:
    """Return x·sigmoid(alpha·x)."""
    return x * torch.sigmoid(alpha * x)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Return x where x ≥ 0, else slope·x; the slope broadcasts."""
    return torch.where(x < 0, x * slope, x)


def hardmax(x: Tensor, axis: int) -> Tensor:
    """Return 1 at the first maximum along ``axis``, else 0."""
    result = torch.zeros_like(x)
    return result.scatter(axis, x.argmax(axis, keepdim=True), 1)


def dropout(x: Tensor, ratio: float, training: Tensor) -> tuple[Tensor, Tensor]:
    """Return x with a share ``ratio`` of its elements zeroed and the rest scaled up, and the mask of those kept."""
    kept = torch.rand_like(x) >= (ratio if training else 0.0)
    return torch.where(kept, x / (1 - (ratio if training else 0.0)), torch.zeros_like(x)), kept


def softmax_in_steps(x: Tensor, axis: int) -> Tensor:
    """Return exp(x − max) / sum with every step rounded to the type of x, as the standard's function body has it."""
    e = torch.exp(x - x.amax(axis, keepdim=True))
    return e / e.sum(axis, keepdim=True)
