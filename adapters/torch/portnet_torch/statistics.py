"""Batch statistics as ONNX keeps them: torch's running variance is unbiased, ONNX's is biased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["BiasedVariance"]


class BiasedVariance:
    """Corrects the running variances of batch norms after each training forward pass.

    torch sets running to a·old + (1−a)·unbiased, with unbiased = biased·n/(n−1) over n elements a channel. The
    part that is not a·old is scaled by (n−1)/n.
    """

    def __init__(self, layers: Sequence[_BatchNorm]) -> None:
        self._layers = list(layers)
        self._counts: dict[nn.Module, int] = {}
        self._old: list[Tensor] = []
        self._hooks = [layer.register_forward_pre_hook(self._count) for layer in self._layers]

    def _count(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._counts[layer] = inputs[0].numel() // inputs[0].size(1)

    def remember(self) -> None:
        """Keep the variances of before the forward pass."""
        self._old = [layer.running_var.clone() for layer in self._layers]  # type: ignore[union-attr]

    @torch.no_grad()
    def correct(self) -> None:
        """Make the variances that the forward pass has updated biased; after backward, which still reads them."""
        ran = [(layer, old) for layer, old in zip(self._layers, self._old, strict=True) if layer in self._counts]
        if not ran:
            return
        running: list[Tensor] = [layer.running_var for layer, _ in ran]  # type: ignore[misc]
        kept = torch._foreach_mul([old for _, old in ran], [1.0 - layer.momentum for layer, _ in ran])
        counts = [self._counts[layer] for layer, _ in ran]
        torch._foreach_sub_(running, kept)
        torch._foreach_mul_(running, [(n - 1) / n for n in counts])
        torch._foreach_add_(running, kept)

    def remove(self) -> None:
        """Take the hooks off the layers."""
        for hook in self._hooks:
            hook.remove()
