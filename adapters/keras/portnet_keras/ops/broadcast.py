"""Numpy broadcasting of values whose axes lie in different orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet_keras.framework import ops
from portnet_keras.layout import KValue, Layout, identity

__all__ = ["add", "align", "fit"]


def add(a: Any, b: Any) -> Any:
    """Add with broadcasting.

    On TensorFlow, ``keras.ops.add`` takes a second operand that has one real axis for a bias by its size alone and
    may add it along another axis (Keras 3.15, (3, 4, 4) + (1, 4, 1)). A larger operand in its place is safe.
    TensorFlow's optimiser fuses a product with what is added, and fails where that is (1, n) and no vector.
    """
    if _is_row(a, b):
        b = ops.reshape(b, (b.shape[-1],))
    if _real_axes(b) != 1 or _is_bias(a, b):
        return ops.add(a, b)
    if _real_axes(a) != 1:
        return ops.add(b, a)
    return ops.subtract(a, ops.negative(b))


def _real_axes(x: Any) -> int:
    return sum(n != 1 for n in x.shape)


def _is_row(a: Any, b: Any) -> bool:
    rank = len(b.shape)
    return 1 < rank <= len(a.shape) and b.shape[-1] == a.shape[-1] not in (None, 1) and set(b.shape[:-1]) == {1}


def _is_bias(a: Any, b: Any) -> bool:
    return len(b.shape) == 1 and len(a.shape) > 0 and a.shape[-1] == b.shape[0]


def align(walk: Any, values: Sequence[ir.Value]) -> tuple[list[Any], tuple[int, ...]]:
    """Return the data of values so that they broadcast as they stand, and the order of the result.

    Arrays that are known are laid out on the host; a weight read nowhere else is kept in the layout wanted here.
    """
    weights = {value for value in values if walk.claimable(value) and _trains(walk, value)}
    made = {value: walk.value(value) for value in values if value not in weights}
    rank = max([v.rank for v in made.values()] + [len(value.shape) for value in weights])
    order = _reference([v for v in made.values() if v.rank == rank and not v.is_constant], rank)
    data = [_weight(walk, value, order) if value in weights else fit(walk, made[value], order) for value in values]
    return data, order


def _trains(walk: Any, value: ir.Value) -> bool:
    role = walk.roles.get(value.name or "")
    return role is not None and role.trainable


def _reference(candidates: list[KValue], rank: int) -> tuple[int, ...]:
    orders = [v.order for v in candidates]
    return next((order for order in orders if order != identity(rank)), identity(rank))


def fit(walk: Any, value: KValue, order: tuple[int, ...]) -> Any:
    """Return the data of a value so that it broadcasts against data in ``order``."""
    missing = len(order) - value.rank
    if value.is_constant:
        array = value.data.reshape((1,) * missing + value.data.shape).transpose(order)
        return np.ascontiguousarray(array).reshape(_stripped(array.shape, value.rank))
    if not missing or order == identity(len(order)):
        return walk.ordered(value, order[-value.rank :] if not missing else identity(value.rank))
    data = walk.ordered(value, identity(value.rank))
    for _ in range(missing):
        data = ops.expand_dims(data, 0)
    return walk.ordered(KValue(data, identity(len(order))), order)


def _weight(walk: Any, value: ir.Value, order: tuple[int, ...]) -> Any:
    shape = tuple(int(n) for n in value.const_value.shape)  # type: ignore[union-attr]
    split = (1,) * (len(order) - len(shape)) + shape
    native = _stripped([split[axis] for axis in order], len(shape))
    return walk.loose(value, Layout.of(shape, order, split=split, native=native)).data


def _stripped(shape: Sequence[int], least: int) -> tuple[int, ...]:
    """Leave out leading axes of size 1 that broadcasting adds again, down to a scalar for one element."""
    sizes = list(shape)
    while sizes and sizes[0] == 1 and (len(sizes) > least or len(sizes) > 1):
        sizes.pop(0)
    return tuple(sizes)
