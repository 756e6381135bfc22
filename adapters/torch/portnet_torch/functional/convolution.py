"""Convolutions with options that torch's own do not take."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: list[int],
    dilations: list[int],
    groups: int,
    crop: list[int],
    extra: list[int],
) -> Tensor:
    """Transpose a convolution, add ``extra`` outputs at each end, and cut ``crop`` (all starts, all ends) off."""
    dims = len(strides)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    y = function(x, weight, None, strides, 0, 0, groups, dilations)
    pads = [n for axis in reversed(range(dims)) for n in (-crop[axis], extra[axis] - crop[dims + axis])]
    y = F.pad(y, pads)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * dims)
