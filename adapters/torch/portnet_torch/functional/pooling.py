"""Pooling for every combination of pads, dilations and ceil mode that ONNX allows.

torch's own pooling serves the common ones; here windows are views made by `Tensor.unfold`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _pads_of(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int] | str, ceil: bool
) -> tuple[list[int], list[int], list[int]]:
    """Return the stated pads at starts and ends, and what must be added at the ends for the last window."""
    starts, ends, beyond = [], [], []
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        size, span = x.size(axis + 2), (k - 1) * d + 1
        if isinstance(pads, str):
            total = max((-(-size // s) - 1) * s + span - size, 0)
            start, end = (total // 2, total - total // 2) if pads == "same_upper" else (total - total // 2, total // 2)
        else:
            start, end = pads[axis], pads[axis + len(kernel)]
        room = size + start + end - span
        windows = (-(-room // s) if ceil else room // s) + 1
        if ceil and (windows - 1) * s >= size + start:
            windows -= 1
        starts.append(start)
        ends.append(end)
        beyond.append(max((windows - 1) * s + span - (size + start + end), 0))
    return starts, ends, beyond


def _windows(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int],
    starts: list[int], ends: list[int], value: float,
) -> Tensor:  # fmt: skip
    """Return a view (N, C, out…, k…) of x padded with ``value``."""
    x = F.pad(x, [n for pair in zip(reversed(starts), reversed(ends), strict=True) for n in pair], value=value)
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        x = x.unfold(axis + 2, (k - 1) * d + 1, s)[..., ::d]
    return x


def max_pool(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int] | str, ceil: bool
) -> Tensor:
    """Return the maximum of each window; padding never wins."""
    starts, ends, beyond = _pads_of(x, kernel, strides, dilations, pads, ceil)
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    ends = [end + more for end, more in zip(ends, beyond, strict=True)]
    return _windows(x, kernel, strides, dilations, starts, ends, lowest).flatten(-len(kernel)).amax(-1)


def max_pool_with_indices(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int] | str, ceil: bool,
    column_major: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the maximum of each window and its index into the flattened input (N, C and spatial axes)."""
    starts, ends, beyond = _pads_of(x, kernel, strides, dilations, pads, ceil)
    ends = [end + more for end, more in zip(ends, beyond, strict=True)]
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    order = list(range(x.ndim))
    sizes = [x.size(axis) for axis in order]
    places = torch.arange(x.numel(), device=x.device)
    if column_major:
        spatial = order[2:]
        places = places.reshape([*sizes[:2], *[sizes[a] for a in reversed(spatial)]])
        places = places.permute(0, 1, *reversed(spatial))
    places = places.reshape(sizes)
    values = _windows(x, kernel, strides, dilations, starts, ends, lowest).flatten(-len(kernel))
    indices = _windows(places, kernel, strides, dilations, starts, ends, -1).flatten(-len(kernel))
    best = values.argmax(-1, keepdim=True)
    return values.gather(-1, best).squeeze(-1), indices.gather(-1, best).squeeze(-1)


def average_pool(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int] | str, ceil: bool,
    count_include_pad: bool,
) -> Tensor:  # fmt: skip
    """Return the mean of each window over real elements, or over stated padding too; never over what ceil adds."""
    starts, ends, beyond = _pads_of(x, kernel, strides, dilations, pads, ceil)
    inside = torch.ones_like(x[:1, :1])
    stated = [n for pair in zip(reversed(starts), reversed(ends), strict=True) for n in pair]
    inside = F.pad(inside, stated, value=float(count_include_pad))
    counts = _windows(inside, kernel, strides, dilations, [0] * len(starts), beyond, 0.0)
    ends = [end + more for end, more in zip(ends, beyond, strict=True)]
    axes = tuple(range(-len(kernel), 0))
    return _windows(x, kernel, strides, dilations, starts, ends, 0.0).sum(axes) / counts.sum(axes)


def lp_pool(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int] | str, ceil: bool, p: int
) -> Tensor:
    """Return the p-norm of each window."""
    starts, ends, beyond = _pads_of(x, kernel, strides, dilations, pads, ceil)
    ends = [end + more for end, more in zip(ends, beyond, strict=True)]
    windows = _windows(x, kernel, strides, dilations, starts, ends, 0.0)
    return torch.linalg.vector_norm(windows, p, tuple(range(-len(kernel), 0)))


def max_unpool(
    x: Tensor, indices: Tensor, kernel: list[int], strides: list[int], pads: list[int], shape: list[int] | None
) -> Tensor:
    """Put each value where MaxPool found it. Indices count in the pool's input, which ``shape`` may exceed."""
    dims = len(kernel)
    inferred = [x.size(0), x.size(1)]
    for axis in range(dims):
        padded = pads[axis] + pads[axis + dims]
        inferred.append((x.size(axis + 2) - 1) * strides[axis] + kernel[axis] - padded)
    total = 1
    for size in inferred:
        total *= size
    flat = x.new_zeros(total).scatter(0, indices.flatten(), x.flatten()).reshape(inferred)
    if shape is None:
        return flat
    result = x.new_zeros(shape)
    result[tuple(slice(0, size) for size in inferred)] = flat
    return result
