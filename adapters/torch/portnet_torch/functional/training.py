"""One optimizer step on one tensor, as ai.onnx.preview.training defines them."""

from __future__ import annotations

import torch
from torch import Tensor


def momentum(
    rate: Tensor, step: Tensor, x: Tensor, g: Tensor, v: Tensor, decay: float, alpha: float, beta: float, nesterov: bool
) -> tuple[Tensor, Tensor]:
    """Return the new x and v = alpha·v + beta·g; beta is 1 in the first step."""
    g = decay * x + g
    v = alpha * v + torch.where(step > 0, beta, 1.0).to(g.dtype) * g
    return x - rate * (g + alpha * v if nesterov else v), v


def adagrad(
    rate: Tensor, step: Tensor, x: Tensor, g: Tensor, h: Tensor, decay: float, eps: float, rate_decay: float
) -> tuple[Tensor, Tensor]:
    """Return the new x and the sum of squared gradients h."""
    g = decay * x + g
    h = h + g * g
    return x - rate / (1 + step * rate_decay) * g / (h.sqrt() + eps), h


def adam(
    rate: Tensor, step: Tensor, x: Tensor, g: Tensor, v: Tensor, h: Tensor,
    decay: float, decay_after: float, alpha: float, beta: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the new x and both moments; the bias is corrected from the second step on."""
    g = decay * x + g
    v, h = alpha * v + (1 - alpha) * g, beta * h + (1 - beta) * g * g
    corrected = torch.where(step > 0, rate * (1 - beta**step).sqrt() / (1 - alpha**step), rate)
    return (1 - decay_after) * (x - corrected * v / (h.sqrt() + eps)), v, h
