"""Padding that depends on the size of the input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_same(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], upper: bool, value: float = 0.0
) -> Tensor:
    """Pad the spatial axes so that a window op gives ⌈size / stride⌉ outputs; ``upper`` puts the odd one last."""
    pads: list[int] = []
    for axis in reversed(range(len(kernel))):
        size, stride = x.size(axis + 2), strides[axis]
        total = max((-(-size // stride) - 1) * stride + (kernel[axis] - 1) * dilations[axis] + 1 - size, 0)
        small = total // 2
        pads += [small, total - small] if upper else [total - small, small]
    return F.pad(x, pads, value=value)
