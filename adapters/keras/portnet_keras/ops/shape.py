"""Ops that change the shape. Transpose moves nothing: it renames the axes of the order."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import onnx_ir as ir
import sympy

from portnet.graph.lowering import NodeView
from portnet.graph.sizes import axis_size
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Packing, identity
from portnet_keras.operation import operation
from portnet_keras.ops.dense import feeds_only_dense
from portnet_keras.ops.registry import op

__all__ = ["broadcast_to_dims", "reshaped", "sizes_of"]


@op("Transpose")
def transpose(walk: Any, node: NodeView) -> KValue:
    """Permute axes; the data stay where they are."""
    x = walk.value(node.required(0))
    perm = node.get("perm") or list(reversed(range(x.rank)))
    if x.packing is not None:
        raise walk.unsupported("a flattened map is transposed")
    if x.is_constant:
        return KValue(x.data.transpose(perm), x.order)
    return KValue(x.data, tuple(perm.index(axis) for axis in x.order))


@op("Flatten")
def flatten(walk: Any, node: NodeView) -> KValue:
    """Flatten to a matrix."""
    x = walk.value(node.required(0))
    axis = node["axis"] + x.rank if node["axis"] < 0 else node["axis"]
    sizes = sizes_of(walk, node.required(0), x)
    target = [math.prod(sizes[:axis]), math.prod(sizes[axis:])]
    return reshaped(walk, node, x, sizes, [sympy.sympify(n) for n in target])


@op("Reshape")
def reshape(walk: Any, node: NodeView) -> KValue:
    """Reshape; free sizes stay free."""
    x = walk.value(node.required(0))
    sizes, dims = sizes_of(walk, node.required(0), x), walk.host_dims(node.required(1))
    if not node.get("allowzero", 0):
        dims = [sizes[i] if _is(n, 0) else n for i, n in enumerate(dims)]
    dims = [sympy.sympify(n) for n in dims]
    if any(_is(n, -1) for n in dims):
        rest = math.prod(n for n in dims if not _is(n, -1))
        missing = sympy.Integer(0) if _is(rest, 0) else sympy.cancel(sympy.sympify(math.prod(sizes)) / rest)
        if sympy.denom(missing) != 1:
            # known when the network runs, and by its own name before
            missing = _free(walk, node.outputs[0], next(axis for axis, n in enumerate(dims) if _is(n, -1)))
        dims = [missing if _is(n, -1) else n for n in dims]
    return reshaped(walk, node, x, sizes, dims)


def _is(size: Any, number: int) -> bool:
    return bool(sympy.sympify(size) == number)


def sizes_of(walk: Any, source: Any, x: KValue) -> list[Any]:
    """Sizes in ONNX's order, symbols where they are free."""
    return [n if n is not None else _free(walk, source, axis) for axis, n in enumerate(x.shape)]


def _free(walk: Any, source: Any, axis: int) -> Any:
    dim = ir.SymbolicDim(None) if source.shape is None else source.shape[axis]
    return axis_size(walk, source, axis, dim)


def reshaped(walk: Any, node: NodeView, x: KValue, sizes: list[Any], dims: list[Any]) -> KValue:
    """Reshape a value from ``sizes`` to ``dims``, moving data only where axes that lie apart are merged."""
    if x.is_constant:
        return KValue(x.data.reshape([int(n) for n in dims]), identity(len(dims)))
    if any(_is(n, 0) for n in sizes):
        return KValue(_reshape_data(walk, node, x.data, dims), identity(len(dims)))
    groups = _groups(sizes, dims)
    order = _order_of(x.order, groups, dims)
    if order is None and _is_flattening(walk, node, x, sizes, dims):
        packing = Packing(tuple(int(n) for n in sizes[1:]), tuple(axis - 1 for axis in x.order if axis))
        return replace(KValue(_reshape_data(walk, node, x.data, dims), identity(2)), packing=packing)
    if order is None:
        x = _gathered(walk, x, groups)
        order = _order_of(x.order, groups, dims)
        assert order is not None
    return KValue(_reshape_data(walk, node, x.data, [dims[axis] for axis in order]), order)


def _is_flattening(walk: Any, node: NodeView, x: KValue, sizes: list[Any], dims: list[Any]) -> bool:
    known = None not in x.shape[1:]
    keeps_batch = len(dims) == 2 and x.order[0] == 0 and bool(sympy.expand(dims[0] - sizes[0]) == 0)
    return keeps_batch and known and feeds_only_dense(walk, node.outputs[0])


Groups = list[tuple[tuple[int, ...], tuple[int, ...]]]


def _groups(sizes: list[Any], dims: list[Any]) -> Groups:
    """Pair axes before and after, split where the products of sizes so far agree. Axes of size 1 are left out."""
    old = [axis for axis, n in enumerate(sizes) if not _is(n, 1)]
    new = [axis for axis, n in enumerate(dims) if not _is(n, 1)]
    before, after = _products([sizes[axis] for axis in old]), _products([dims[axis] for axis in new])
    cuts, j = [(0, 0)], 1
    for i in range(1, len(old)):
        found = next((k for k in range(j, len(new)) if sympy.expand(before[i] - after[k]) == 0), None)
        if found is not None:
            cuts.append((i, found))
            j = found + 1
    cuts.append((len(old), len(new)))
    return [(tuple(old[a:c]), tuple(new[b:d])) for (a, b), (c, d) in itertools.pairwise(cuts)]


def _products(sizes: list[Any]) -> list[Any]:
    return [sympy.sympify(n) for n in itertools.accumulate(sizes, lambda a, b: a * b, initial=1)]


def _order_of(order: tuple[int, ...], groups: Groups, dims: list[Any]) -> tuple[int, ...] | None:
    """Return the order after reshaping group by group, or None where a group's axes lie apart."""
    group_of = {axis: group for group in groups for axis in group[0]}
    real = [axis for axis in order if axis in group_of]
    result: list[int] = []
    while real:
        old, new = group_of[real[0]]
        if tuple(real[: len(old)]) != old:
            return None
        result += new
        real = real[len(old) :]
    for axis, n in enumerate(dims):
        if _is(n, 1):
            result.insert(axis, axis)
    return tuple(result)


def _gathered(walk: Any, x: KValue, groups: Groups) -> KValue:
    """Move the axes of each group together, groups in the order of their first axes.

    Where the last axis of the data is of the last group, nothing lies channels last: the result lies as ONNX has it.
    """
    place = x.order.index
    first = [old for old, _ in groups]
    if max((axis for old in first for axis in old), key=place, default=0) not in first[-1]:
        first.sort(key=lambda old: min(map(place, old), default=0))
    real = [axis for old in first for axis in old]
    units = [axis for axis in x.order if axis not in real]
    order = (*(axis for axis in units if axis == 0), *real, *(axis for axis in units if axis))
    return KValue(walk.ordered(x, order), order)


@operation
def reshape_free(x: Any, *sizes: Any, shape: Any) -> Any:
    """Reshape to ``shape``, whose None are filled by scalar tensors in turn."""
    filled = iter(sizes)
    return ops.reshape(x, [next(filled) if n is None else n for n in shape])


def _reshape_data(walk: Any, node: NodeView, x: Any, dims: list[Any]) -> Any:
    sizes = [int(n) if n.is_Integer else n for n in map(sympy.sympify, dims)]
    free = [n for n in sizes if not isinstance(n, int)]
    if len(free) <= 1 and 0 not in sizes:
        return _reshape_layer(walk, node, x, [n if isinstance(n, int) else -1 for n in sizes])
    left = [n for n in free if walk.symbols.get(n, (None,))[0] is node.outputs[0]]
    shape = [-1 if n in left else n if isinstance(n, int) else None for n in sizes]
    known = (ops.cast(walk.size(n), "int32") for n in free if n not in left)
    return walk.apply(reshape_free, node, x, *known, shape=shape)


def _reshape_layer(walk: Any, node: NodeView, x: Any, sizes: list[int]) -> Any:
    keeps_batch = len(sizes) > 1 and len(x.shape) > 0 and sizes[0] == (-1 if x.shape[0] is None else x.shape[0])
    if keeps_batch and sizes[0] == -1 and None not in x.shape[1:]:
        # both are free, but not the same size: heads may have moved into the batch
        keeps_batch = math.prod(sizes[1:]) == math.prod(x.shape[1:])
    if keeps_batch and sizes[0] == -1 and None not in x.shape[1:]:
        cls, arguments = (
            (keras.layers.Flatten, ()) if len(sizes) == 2 and len(x.shape) > 2 else (keras.layers.Reshape, (sizes[1:],))
        )
        return walk.layer(node, cls, *arguments)(x)
    return ops.reshape(x, sizes)


@op("Squeeze")
def squeeze(walk: Any, node: NodeView) -> KValue:
    """Leave out axes of size 1."""
    x = walk.value(node.required(0))
    if node.input(1) is None:
        axes = [axis for axis, n in enumerate(x.shape) if n == 1]
    else:
        axes = [axis % x.rank for axis in walk.host_ints(node.input(1))]
    rest = [axis for axis in x.order if axis not in axes]
    data = x.data
    for position in sorted((x.axis(axis) for axis in axes), reverse=True):
        if data.shape[position] is None:
            data = walk.apply(squeeze_free, node, data, axis=position)
        else:
            data = ops.squeeze(data, position)
    return KValue(data, tuple(sorted(rest).index(axis) for axis in rest))


@operation
def squeeze_free(x: Any, *, axis: int) -> Any:
    """Leave out an axis that is 1 when the network runs."""
    shape = ops.shape(x)
    return ops.reshape(x, (*shape[:axis], *shape[axis + 1 :]))


@op("Unsqueeze")
def unsqueeze(walk: Any, node: NodeView) -> KValue:
    """Put in axes of size 1; they lie where they leave the others in order."""
    x = walk.value(node.required(0))
    rank = x.rank + len(walk.host_ints(node.input(1)))
    new = sorted(axis % rank for axis in walk.host_ints(node.input(1)))
    kept = [axis for axis in range(rank) if axis not in new]
    order = [kept[axis] for axis in x.order]
    data = x.data
    for axis in new:
        order.insert(axis, axis)
        data = ops.expand_dims(data, axis)
    return KValue(data, tuple(order))


@op("Expand")
def expand(walk: Any, node: NodeView) -> Any:
    """Broadcast to a shape."""
    x = walk.value(node.required(0))
    dims = walk.host_dims(node.required(1))
    rank = max(x.rank, len(dims))
    wanted = [1] * (rank - len(dims)) + dims
    own = [1] * (rank - x.rank) + sizes_of(walk, node.required(0), x)
    target = [want if _is(have, 1) else have for have, want in zip(own, wanted, strict=True)]
    return broadcast_to_dims(walk, node, walk.plain(node.required(0)), target)


@operation
def broadcast_free(x: Any, *sizes: Any, shape: Any) -> Any:
    """Broadcast to ``shape``, whose None are filled by scalar tensors in turn."""
    filled = iter(sizes)
    return ops.broadcast_to(x, [next(filled) if n is None else n for n in shape])


def broadcast_to_dims(walk: Any, node: NodeView, x: Any, dims: list[Any]) -> Any:
    """Broadcast to sizes that may be free."""
    target = [sympy.sympify(n) for n in dims]
    shape = [int(n) if n.is_Integer else None for n in target]
    if None not in shape:
        return ops.broadcast_to(x, shape)
    free = [ops.cast(walk.size(n), "int32") for n in target if not n.is_Integer]
    return walk.apply(broadcast_free, node, x, *free, shape=shape)
