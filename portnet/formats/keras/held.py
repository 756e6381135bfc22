"""`Held`: a tensor of the graph, and the order that Keras's axes lie in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.writer import rank_of, sizes_of

__all__ = ["Held", "Packing", "channels_first", "identity"]


def identity(rank: int) -> tuple[int, ...]:
    """Return the order in which every axis lies where Keras has it."""
    return tuple(range(rank))


def channels_first(rank: int) -> tuple[int, ...]:
    """Return the order (N, C, ...) of a tensor that Keras has as (N, ..., C)."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else identity(rank)


@dataclass(frozen=True)
class Packing:
    """Says that a flattened tensor's last axis was flattened from another order than Keras's.

    Attributes:
        source: the tensor before it was flattened; none of its sizes but the batch's is free.
    """

    source: Held

    @property
    def permutation(self) -> np.ndarray:
        """Return, for each entry of the last axis, the place at which Keras has it; shape (features,) int64."""
        sizes = [size or 0 for size in self.source.shape[1:]]
        places = np.arange(math.prod(sizes)).reshape(sizes)
        return places.transpose([axis - 1 for axis in self.source.order[1:]]).reshape(-1)


@dataclass(frozen=True)
class Held:
    """A tensor of the graph.

    Attributes:
        value: the tensor.
        order: axis i of the tensor is Keras's axis ``order[i]``. The batch, where there is one, is axis 0 of both.
        packing: how its last axis was flattened, where not in Keras's order.
    """

    value: ir.Value
    order: tuple[int, ...]
    packing: Packing | None = None

    @classmethod
    def plain(cls, value: ir.Value) -> Held:
        """Hold a tensor whose axes lie as Keras has them."""
        return cls(value, identity(rank_of(value)))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Sizes in Keras's order, None where they are free."""
        sizes: list[int | None] = [None] * self.rank
        for size, axis in zip(sizes_of(self.value), self.order, strict=True):
            sizes[axis] = size
        return tuple(sizes)

    def axis(self, axis: int) -> int:
        """Return the tensor's axis that is Keras's ``axis``, which may be negative.

        Raises:
            ModelError: it has no such axis.
        """
        return self.order.index(self.positive(axis))

    def positive(self, axis: int) -> int:
        """Return Keras's ``axis`` counted from the front."""
        if not isinstance(axis, int) or not -self.rank <= axis < self.rank:
            raise ModelError(f"axis: got {axis!r}, expected one of a tensor of {self.rank} axes")
        return axis % self.rank

    def size(self, axis: int, what: str) -> int:
        """Return the size of Keras's ``axis``.

        Raises:
            ModelError: it is free; ``what`` says who needs it.
        """
        size = self.shape[self.positive(axis)]
        if size is None:
            raise ModelError(f"{what}: axis {axis} of its input has a free size, expected a known one")
        return size

    def laid(self, values: Sequence[int], fill: int = 0) -> list[int]:
        """Return numbers given for Keras's last axes as numbers for the tensor's axes; others get ``fill``."""
        every = [fill] * (self.rank - len(values)) + list(values)
        return [every[axis] for axis in self.order]
