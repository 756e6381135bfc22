"""Random tensors; a seed makes each call draw the same numbers, without one the global generator is drawn on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _generator(seed: float | None, device: Any) -> torch.Generator | None:
    return None if seed is None else torch.Generator(device).manual_seed(hash(float(seed)))


def uniform(shape: list[int], low: float, high: float, dtype: torch.dtype, seed: float | None, device: Any) -> Tensor:
    """Draw evenly from [low, high)."""
    generator = _generator(seed, device)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype, device=device)


def normal(shape: list[int], mean: float, std: float, dtype: torch.dtype, seed: float | None, device: Any) -> Tensor:
    """Draw from a normal distribution."""
    return mean + std * torch.randn(shape, generator=_generator(seed, device), dtype=dtype, device=device)


def uniform_like(x: Tensor, low: float, high: float, dtype: torch.dtype, seed: float | None) -> Tensor:
    """Draw evenly from [low, high) in the shape of x."""
    return uniform(list(x.shape), low, high, dtype, seed, x.device)


def normal_like(x: Tensor, mean: float, std: float, dtype: torch.dtype, seed: float | None) -> Tensor:
    """Draw from a normal distribution in the shape of x."""
    return normal(list(x.shape), mean, std, dtype, seed, x.device)


def multinomial(logits: Tensor, count: int, dtype: torch.dtype, seed: float | None) -> Tensor:
    """Draw ``count`` classes for each row of unnormalised log probabilities."""
    probabilities = torch.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 1)
    return torch.multinomial(probabilities, count, True, generator=_generator(seed, logits.device)).to(dtype)


def bernoulli(p: Tensor, dtype: torch.dtype, seed: float | None) -> Tensor:
    """Draw 1 with probability p, else 0."""
    return torch.bernoulli(p, generator=_generator(seed, p.device)).to(dtype)
