"""Gather and scatter with ONNX's index rules: negative indices count from the end."""

from __future__ import annotations

import torch
from torch import Tensor


def from_end(indices: Tensor, size: int) -> Tensor:
    """Return indices with negative ones counted from the end."""
    return torch.where(indices < 0, indices + size, indices)


def gather(x, indices: Tensor, axis: int):  # type: ignore[no-untyped-def]
    """Take slices along an axis; the axes of ``indices`` take that axis's place. Strings are numpy arrays."""
    if not isinstance(x, Tensor):
        return x.take(indices.numpy(), axis)
    flat = from_end(indices, x.size(axis)).reshape(-1)
    axis = axis % x.ndim
    return x.index_select(axis, flat).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def gather_elements(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Take single elements along an axis."""
    return torch.gather(x, axis, from_end(indices, x.size(axis)).long())


def _places(x: Tensor, indices: Tensor, batch: int) -> tuple[Tensor, ...]:
    """Return index tensors for the first axes of x, one for each column of ``indices``."""
    columns = [indices[..., i].long() for i in range(indices.shape[-1])]
    rank = indices.ndim - 1
    leading = []
    for axis in range(batch):
        shape = [1] * rank
        shape[axis] = x.size(axis)
        leading.append(torch.arange(x.size(axis), device=x.device).reshape(shape).expand(indices.shape[:-1]))
    return (*leading, *columns)


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Take slices by index tuples."""
    return x[_places(x, indices, batch_dims)]


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    """Write single elements along an axis, combining with what is there."""
    indices = from_end(indices, x.size(axis)).long()
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, _REDUCE[reduction])


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Write slices by index tuples, combining with what is there."""
    places = _places(x, indices, 0)
    if reduction in ("none", "add"):
        return x.index_put(places, updates, accumulate=reduction == "add")
    depth = indices.shape[-1]
    rows = torch.zeros_like(places[0])
    for axis, place in enumerate(places):
        rows = rows * x.size(axis) + from_end(place, x.size(axis))
    flat = x.reshape(-1, *x.shape[depth:])
    updates = updates.reshape(-1, *x.shape[depth:])
    index = rows.reshape(-1, *[1] * (flat.ndim - 1)).expand_as(updates)
    return flat.scatter_reduce(0, index, updates, _REDUCE[reduction]).reshape(x.shape)


def one_hot(indices: Tensor, depth: float, values: Tensor, axis: int) -> Tensor:
    """Put values[1] where the new axis counts to the index and values[0] elsewhere."""
    depth = int(depth)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    places = torch.where(indices < 0, indices + depth, indices).long().unsqueeze(axis)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = depth
    hot = places == torch.arange(depth, device=indices.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


def compress(x: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    """Keep the slices where the condition holds; a shorter condition drops the rest."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.nonzero().flatten())


def unique(x: Tensor, axis: int | None, sort: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unique values, index of their first occurrence, the inverse and the counts."""
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    inverse = inverse.flatten()
    places = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse, places, "amin")
    if not sort:
        order = first.argsort()
        values = values.index_select(0 if axis is None else axis, order)
        inverse, first, counts = order.argsort()[inverse], first[order], counts[order]
    return values, first, inverse, counts


def tensor_scatter(cache: Tensor, update: Tensor, start: Tensor | None, axis: int, circular: bool) -> Tensor:
    """Write ``update`` into a copy of ``cache`` along ``axis`` from ``start[batch]`` on."""
    axis = axis % cache.ndim
    steps = torch.arange(update.size(axis), device=cache.device)
    begin = torch.zeros(cache.size(0), dtype=torch.int64, device=cache.device) if start is None else start
    places = begin.unsqueeze(1) + steps
    places = places % cache.size(axis) if circular else places
    shape = [1] * cache.ndim
    shape[0], shape[axis] = places.shape
    return cache.scatter(axis, places.reshape(shape).expand(update.shape), update)
