"""How an ONNX array lies in a Keras variable, and how a tensor's axes lie in memory. Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["KValue", "Layout", "Packing", "channels_last", "identity"]


def identity(rank: int) -> tuple[int, ...]:
    """Return the order of a tensor that lies as ONNX has it."""
    return tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """Return the order (N, ..., C) of an ONNX tensor (N, C, ...)."""
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


@dataclass(frozen=True)
class Packing:
    """Says that the last axis of a flattened tensor was flattened from another order than ONNX's.

    Attributes:
        sizes: ONNX sizes of the axes that were flattened, e.g. (C, H, W).
        order: their order in the data, e.g. (1, 2, 0) for H, W, C.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class KValue:
    """A tensor of the network and the order its axes lie in.

    Attributes:
        data: a KerasTensor; or a numpy array, for what is known while the network is built, in ONNX's order;
            or a list of KValue for an ONNX sequence.
        order: axis i of the data is ONNX axis ``order[i]``.
        packing: how the last axis was flattened, when not in ONNX's order. Dense layers undo it in their kernel.
    """

    data: Any
    order: tuple[int, ...]
    packing: Packing | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def is_constant(self) -> bool:
        """Whether the numbers are known while the network is built."""
        return isinstance(self.data, np.ndarray)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Sizes in ONNX's order, None where they are free."""
        sizes: list[int | None] = [None] * self.rank
        for size, axis in zip(self.data.shape, self.order, strict=True):
            sizes[axis] = size
        return tuple(sizes)

    def axis(self, onnx_axis: int) -> int:
        """Return the data's axis that holds an ONNX axis, which may be negative.

        Raises:
            ValueError: the tensor has no such axis.
        """
        if not -self.rank <= onnx_axis < self.rank:
            raise ValueError(f"axis {onnx_axis} is outside a tensor of rank {self.rank}")
        return self.order.index(onnx_axis % self.rank)


@dataclass(frozen=True)
class Layout:
    """A reversible change of layout: reshape to ``split``, transpose by ``perm``, reshape to ``native``."""

    shape: tuple[int, ...]
    split: tuple[int, ...]
    perm: tuple[int, ...]
    native: tuple[int, ...]

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        perm: Sequence[int] | None = None,
        *,
        split: Sequence[int] | None = None,
        native: Sequence[int] | None = None,
    ) -> Layout:
        """Return the layout of an array of ONNX shape ``shape``; what is left out changes nothing."""
        split = tuple(shape) if split is None else tuple(split)
        perm = identity(len(split)) if perm is None else tuple(perm)
        native = tuple(split[p] for p in perm) if native is None else tuple(native)
        if math.prod(native) != math.prod(shape):
            raise ValueError(f"layout: {tuple(shape)} does not fill {native}")
        return cls(tuple(shape), split, perm, native)

    def to_native(self, array: np.ndarray) -> np.ndarray:
        """Return an ONNX array as the engine keeps it."""
        return np.ascontiguousarray(array.reshape(self.split).transpose(self.perm)).reshape(self.native)

    def to_onnx(self, array: np.ndarray) -> np.ndarray:
        """Return an engine's array as ONNX has it, always a copy."""
        moved = array.reshape([self.split[p] for p in self.perm])
        return np.array(moved.transpose(np.argsort(self.perm)).reshape(self.shape), order="C")
