"""Reshape: MXNet's codes say which axes are copied, merged and split, where several sizes are free."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import size_of
from portnet_gluon.ops.registry import Symbol, numpy_op, op
from portnet_gluon.ops.shape import broadcast_free


@op("Flatten")
def flatten(walk: Any, node: NodeView) -> Symbol:
    """A matrix: the axes before ``axis``, and the rest; the batch stays free."""
    rank = walk.rank(node.required(0))
    axis = node["axis"] + rank * (node["axis"] < 0)
    x = walk.value(node.required(0))
    if axis == 1:
        return mx.sym.Flatten(x, name=node.name) if rank > 1 else mx.sym.reshape(x, shape=(-1, 1), name=node.name)
    sizes = [size_of(walk, node.required(0), i) for i in range(rank)]
    known = [size if isinstance(size, int) else None for size in (math.prod(sizes[:axis]), math.prod(sizes[axis:]))]
    if known == [None, None]:
        for _ in range(axis - 1):
            x = mx.sym.reshape(x, shape=(-3, -2))  # joins the first two axes
        return mx.sym.reshape(x, shape=(0, -1), name=node.name)
    return mx.sym.reshape(x, shape=_codes(walk, known), name=node.name)


@op("Reshape")
def reshape(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.reshape`` with at most one size left to it; equal leading free sizes are copied by its code 0.

    Where more are free, axes are copied, merged and split in their order, or the shape is that of a tensor.
    """
    dims = walk.host_dims(node.required(1))
    source = node.required(0)
    if not node["allowzero"]:
        dims = [size_of(walk, source, axis) if size == 0 else size for axis, size in enumerate(dims)]
    sizes = [size if isinstance(size, int) and size >= 0 else None for size in dims]
    inferred = walk.static_shape(node.outputs[0]) or [None] * len(sizes)
    sizes = [known if size is None else size for size, known in zip(sizes, inferred, strict=True)]
    copied = [_is_same_size(walk, source, axis, size) for axis, size in enumerate(dims)]
    dims = [size if known is None else known for size, known in zip(dims, sizes, strict=True)]
    if 0 in sizes:
        return numpy_op("reshape", walk.value(source), newshape=sizes, name=node.name)
    if _open(sizes, copied) > 1:
        own = [size_of(walk, source, axis) for axis in range(walk.rank(source))]
        dims = _with_rest(own, dims)
        codes = _step_codes(own, dims)
        if codes is not None:
            return mx.sym.reshape(walk.value(source), shape=codes, name=node.name)
    if _open(sizes, copied) > 1 and -1 not in dims:
        known = [1 if size is None else size for size in sizes]
        like = broadcast_free(walk, walk.constant(node, "like", np.zeros(known, np.float32)), known, dims)
        return mx.sym.reshape_like(walk.value(source), like, name=node.name)
    return mx.sym.reshape(walk.value(source), shape=_codes(walk, sizes, copied), name=node.name)


def _with_rest(own: list[Any], dims: list[Any]) -> list[Any]:
    """Return the sizes with what -1 stands for, where it follows."""
    if -1 not in dims:
        return dims
    rest = sympy.cancel(sympy.sympify(math.prod(own)) / math.prod(size for size in dims if size != -1))
    return [rest if size == -1 and sympy.denom(rest) == 1 else size for size in dims]


def _step_codes(own: list[Any], dims: list[Any]) -> list[int] | None:
    """Return MXNet's shape that copies (0), merges (-3) and splits (-4) axes one after the other, or None."""
    codes, at, i = [], 0, 0
    while i < len(dims) and at < len(own):
        pair = sympy.expand(math.prod(dims[i : i + 2]))
        if sympy.expand(own[at] - dims[i]) == 0:
            codes, at, i = [*codes, 0], at + 1, i + 1
        elif sympy.expand(math.prod(own[at : at + 2]) - dims[i]) == 0:
            codes, at, i = [*codes, -3], at + 2, i + 1
        elif sympy.expand(own[at] - pair) == 0 and any(isinstance(size, int) for size in dims[i : i + 2]):
            parts = [size if isinstance(size, int) else -1 for size in dims[i : i + 2]]
            codes, at, i = [*codes, -4, *parts], at + 1, i + 2
        else:
            return None
    return codes if (at, i) == (len(own), len(dims)) else None


def _open(sizes: list[int | None], copied: list[bool]) -> int:
    """Count the sizes that MXNet would have to find itself."""
    return sum(size is None and not copy for size, copy in zip(sizes, copied, strict=True))


def _is_same_size(walk: Any, source: Any, axis: int, size: Any) -> bool:
    shape = source.shape
    return not isinstance(size, int) and shape is not None and axis < len(shape) and size_of(walk, source, axis) == size


def _codes(walk: Any, sizes: list[int | None], copied: list[bool] | None = None) -> list[int]:
    """Return MXNet's shape of ``sizes``: 0 copies the axis (where ``copied``), −1 is inferred.

    Raises:
        UnsupportedError: more than one size is neither known nor copied.
    """
    copied = copied or [False] * len(sizes)
    free = [axis for axis, size in enumerate(sizes) if size is None]
    keep = [axis for axis in free if copied[axis]] if len(free) > 1 else []
    if len(free) - len(keep) > 1:
        raise walk.unsupported(f"shape: got {sizes}, expected at most one size that is free")
    return [0 if axis in keep else -1 if size is None else size for axis, size in enumerate(sizes)]
