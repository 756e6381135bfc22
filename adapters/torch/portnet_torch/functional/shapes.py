"""Reshaping, slicing and padding with ONNX's conventions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shape(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes of axes start to end as an int64 tensor."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def size(x: Tensor) -> Tensor:
    """Return the number of elements as an int64 scalar."""
    total = 1
    for length in x.shape:
        total *= length
    return torch.tensor(total, dtype=torch.int64)


def reshape(x: Tensor, dims: list[int], allow_zero: bool) -> Tensor:
    """Reshape; a size of 0 is copied from x unless ``allow_zero``."""
    return x.reshape(dims if allow_zero else [x.size(a) if n == 0 else n for a, n in enumerate(dims)])


def flatten(x: Tensor, axis: int) -> Tensor:
    """Make a matrix: axes before ``axis`` become rows, the others columns."""
    axis = axis + x.ndim if axis < 0 else axis
    rows, columns = 1, 1
    for length in x.shape[:axis]:
        rows *= length
    for length in x.shape[axis:]:
        columns *= length
    return x.reshape(rows, columns)


def squeeze(x: Tensor, axes: list[int]) -> Tensor:
    """Remove axes of size 1."""
    return torch.squeeze(x, tuple(axes)) if axes else x


def unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    """Insert axes of size 1 at these places of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


def split_evenly(x: Tensor, count: int, axis: int) -> list[Tensor]:
    """Split into ``count`` parts; the last is smaller where the size does not divide."""
    size = -(-x.size(axis) // count)
    starts = [min(size * i, x.size(axis)) for i in range(count)]
    return [x.narrow(axis, s, min(size, x.size(axis) - s)) for s in starts]


def slice_(
    x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None = None, steps: list[int] | None = None
) -> Tensor:
    """Slice as numpy does; torch has no negative steps, so those are index lists."""
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = axes[i] if axes else i, steps[i] if steps else 1
        if step > 0:
            index: list[slice] = [slice(None)] * x.ndim
            index[axis] = slice(start, end, step)
            x = x[tuple(index)]
        else:
            places = range(x.size(axis))[slice(start, None if end < -x.size(axis) else end, step)]
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


def expand(x: Tensor, dims: list[int]) -> Tensor:
    """Broadcast x and ``dims`` to one shape."""
    dims = [1] * (x.ndim - len(dims)) + list(dims)
    own = [1] * (len(dims) - x.ndim) + list(x.shape)
    return x.expand([o if n == 1 else n for o, n in zip(own, dims, strict=True)])


def pad(x: Tensor, pads: list[int], fill: float = 0, axes: list[int] | None = None) -> Tensor:
    """Pad with a number; ``pads`` holds all starts, then all ends, of ``axes``; negative ones crop."""
    full = [0] * (2 * x.ndim)
    chosen = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    for i, axis in enumerate(chosen):
        place = 2 * (x.ndim - 1 - axis)
        full[place], full[place + 1] = pads[i], pads[i + len(chosen)]
    while full and full[-1] == 0 and full[-2] == 0:
        full = full[:-2]
    return F.pad(x, full, value=fill) if full else x


def pad_from_edge(x: Tensor, pads: list[int], mode: str, axes: list[int] | None = None) -> Tensor:
    """Pad by index lists: ``reflect``, ``edge`` or ``wrap``; any rank and any width."""
    chosen = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    for i, axis in enumerate(chosen):
        length = x.size(axis)
        places = torch.arange(-pads[i], length + pads[i + len(chosen)], device=x.device)
        if mode == "edge":
            places = places.clamp(0, length - 1)
        elif mode == "wrap":
            places = places % length
        else:
            period = max(2 * (length - 1), 1)
            places = (places % period).minimum(period - places % period)
        x = x.index_select(axis, places)
    return x


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Move blocks of channels into blocks of pixels; the block's axes are the outer ones of the channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // (block * block), h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, c // (block * block), h * block, w * block)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Move blocks of pixels into channels, the block's axes outermost; its inverse is `depth_to_space`."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block * block, h // block, w // block)


def eye_like(x: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """Return ones on diagonal k and zeros elsewhere, shaped like x."""
    return torch.diag_embed(torch.ones(max(x.shape), dtype=dtype, device=x.device), k)[max(-k, 0) + min(k, 0) :, :][
        : x.size(0), : x.size(1)
    ]


def center_crop_pad(x: Tensor, sizes: list[int], axes: list[int] | None = None) -> Tensor:
    """Crop or zero-pad each axis around its centre to the given size."""
    for i, axis in enumerate(range(x.ndim) if axes is None else axes):
        have, want = x.size(axis), sizes[i]
        if have >= want:
            x = x.narrow(axis, (have - want) // 2, want)
        else:
            before = (want - have) // 2
            full = [0] * (2 * x.ndim)
            place = 2 * (x.ndim - 1 - axis % x.ndim)
            full[place], full[place + 1] = before, want - have - before
            x = F.pad(x, full)
    return x


def reverse_sequence(x: Tensor, lengths: Tensor, time_axis: int, batch_axis: int) -> Tensor:
    """Reverse the first ``lengths[b]`` entries along the time axis for each b."""
    time = torch.arange(x.size(time_axis), device=x.device)
    lengths = lengths.unsqueeze(1)
    index = torch.where(time < lengths, lengths - 1 - time, time)
    index = index if batch_axis == 0 else index.t()
    return x.gather(time_axis, index.reshape(index.shape + (1,) * (x.ndim - 2)).expand_as(x))
