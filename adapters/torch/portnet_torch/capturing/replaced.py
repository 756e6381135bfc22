"""Functions that torch.export traces badly or not at all, as what they compute, while a network is traced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules import transformer
from torch.overrides import TorchFunctionMode

__all__ = ["Replacing", "masks_as_given"]


class Replacing(TorchFunctionMode):
    """Calls what is in the table in place of torch's own function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the replacement, or ``func`` where there is none for these arguments."""
        replacement = _TABLE.get(func)
        result = NotImplemented if replacement is None else replacement(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is NotImplemented else result


@contextlib.contextmanager
def masks_as_given() -> Iterator[None]:
    """Let layers of nn.Transformer use a mask as it is, and not ask whether it is the causal one.

    What a mask holds is not known while a network is traced, and attention is the same either way.
    """
    detect = getattr(transformer, _DETECT, None)
    if detect is not None:
        setattr(transformer, _DETECT, lambda mask, is_causal=None, size=None: is_causal is True)
    try:
        yield
    finally:
        if detect is not None:
            setattr(transformer, _DETECT, detect)


# private in torch: where it is gone, nothing is asked
_DETECT = "_detect_is_causal_mask"


def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Bags of one size, (bags, size), are rows looked up and put together along an axis."""
    if input.ndim != 2 or max_norm is not None or padding_idx is not None:
        return NotImplemented
    rows = functional.embedding(input, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if mode == "max":
        return rows.amax(1)
    return rows.sum(1) if mode == "sum" else rows.mean(1)


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """Return the p-norm distance of each row of one to each of the other."""
    apart = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).abs()
    if p == 1:
        return apart.sum(-1)
    if p == float("inf"):
        return apart.amax(-1)
    return apart.pow(2).sum(-1).sqrt() if p == 2 else apart.pow(p).sum(-1).pow(1 / p)


def _rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Any:
    return NotImplemented if training or inplace else functional.leaky_relu(input, (lower + upper) / 2)


def _hypot(input: Tensor, other: Tensor) -> Tensor:
    return (input * input + other * other).sqrt()


def _fake_quantized(
    input: Tensor, scale: Tensor | float, zero_point: Tensor | int, quant_min: int, quant_max: int
) -> Tensor:
    """Rounded to steps and back; torch.export has no kernel for torch's own operation."""
    steps = torch.round(input * (1 / scale)) + zero_point
    return (steps.clamp(quant_min, quant_max) - zero_point) * scale


def _fake_quantized_by_channel(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Tensor:
    shape = [-1 if place == axis % input.ndim else 1 for place in range(input.ndim)]
    return _fake_quantized(input, scale.reshape(shape), zero_point.reshape(shape), quant_min, quant_max)


_TABLE: dict[Any, Callable[..., Any]] = {
    functional.embedding_bag: _embedding_bag,
    functional.rrelu: _rrelu,
    torch.cdist: _cdist,
    torch.hypot: _hypot,
    torch.fake_quantize_per_tensor_affine: _fake_quantized,
    torch.fake_quantize_per_channel_affine: _fake_quantized_by_channel,
}
