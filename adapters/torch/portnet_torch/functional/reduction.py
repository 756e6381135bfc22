"""Reductions with ONNX's axes, types and order among equals.

``axes`` None reduces all axes, [] none.
"""

from __future__ import annotations

import torch
from torch import Tensor


def all_if_empty(axes: list[int]) -> list[int] | None:
    """Return axes, or None for all of them where the list is empty."""
    return axes or None


def total(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Sum in the type of x."""
    return x if axes == [] else torch.sum(x, axes, keepdim=keepdims, dtype=x.dtype)


def mean(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Mean in the type of x; integers are truncated."""
    if axes == []:
        return x
    if x.is_floating_point():
        return torch.mean(x, axes, keepdim=keepdims)
    return torch.mean(x.double(), axes, keepdim=keepdims).to(x.dtype)


def product(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Multiply along axes."""
    for axis in sorted((a % x.ndim for a in (range(x.ndim) if axes is None else axes)), reverse=True):
        x = torch.prod(x, axis, keepdim=keepdims, dtype=x.dtype)
    return x


def maximum(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Largest element; the lowest number of the type where there is none."""
    return _extreme(x, axes, keepdims, True)


def minimum(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Smallest element; the highest number of the type where there is none."""
    return _extreme(x, axes, keepdims, False)


def _extreme(x: Tensor, axes: list[int] | None, keepdims: bool, largest: bool) -> Tensor:
    chosen = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    if all(x.size(axis) for axis in chosen):
        return (torch.amax if largest else torch.amin)(x, chosen, keepdim=keepdims) if chosen else x
    if x.is_floating_point():
        fill = float("-inf") if largest else float("inf")
    elif x.dtype == torch.bool:
        fill = not largest
    else:
        fill = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
    sizes = [1 if a in chosen else n for a, n in enumerate(x.shape) if keepdims or a not in chosen]
    return torch.full(sizes, fill, dtype=x.dtype, device=x.device)


def l1(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Sum of absolute values."""
    return total(x.abs(), axes, keepdims)


def l2(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Root of the sum of squares."""
    return total((x * x).double() if not x.is_floating_point() else x * x, axes, keepdims).sqrt().to(x.dtype)


def log_sum(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Logarithm of the sum."""
    return total(x, axes, keepdims).log().to(x.dtype)


def log_sum_exp(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Logarithm of the sum of exponentials, without overflow."""
    chosen = list(range(x.ndim)) if axes is None else axes
    values = x if x.is_floating_point() else x.double()
    return torch.logsumexp(values, chosen, keepdim=keepdims).to(x.dtype) if chosen else x


def sum_square(x: Tensor, axes: list[int] | None, keepdims: bool) -> Tensor:
    """Sum of squares."""
    return total(x * x, axes, keepdims)


def argmax(x: Tensor, axis: int, keepdims: bool, last: bool) -> Tensor:
    """Index of the largest element: the first of equals, or the last."""
    if last:
        return x.size(axis) - 1 - x.flip(axis).argmax(axis, keepdim=keepdims)
    return x.argmax(axis, keepdim=keepdims)


def argmin(x: Tensor, axis: int, keepdims: bool, last: bool) -> Tensor:
    """Index of the smallest element: the first of equals, or the last."""
    if last:
        return x.size(axis) - 1 - x.flip(axis).argmin(axis, keepdim=keepdims)
    return x.argmin(axis, keepdim=keepdims)


def cumsum(x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Running sum, without the element itself where ``exclusive``."""
    x = x.flip(axis) if reverse else x
    result = torch.cumsum(x, axis, dtype=x.dtype)
    if exclusive:
        result = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), result.narrow(axis, 0, x.size(axis) - 1)], axis)
    return result.flip(axis) if reverse else result


def cumprod(x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Running product, without the element itself where ``exclusive``."""
    x = x.flip(axis) if reverse else x
    result = torch.cumprod(x, axis, dtype=x.dtype)
    if exclusive:
        result = torch.cat([torch.ones_like(x.narrow(axis, 0, 1)), result.narrow(axis, 0, x.size(axis) - 1)], axis)
    return result.flip(axis) if reverse else result


def topk(x: Tensor, k: int, axis: int, largest: bool, sort: bool) -> tuple[Tensor, Tensor]:
    """The k largest or smallest along an axis, the first of equals first."""
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
