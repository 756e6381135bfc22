"""What a builder sees of its layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.caffe.arrays import Arrays
from portnet.formats.caffe.layers.registry import NotExpressible
from portnet.formats.caffe.text import Message
from portnet.formats.writer import GraphWriter, sizes_of

__all__ = ["Layer"]

# what changes how fast a layer computes or how it is drawn, but not what it computes
_HARMLESS = frozenset(
    {
        *("engine", "weight_filler", "bias_filler", "filler", "slope_filler", "force_nd_im2col", "stable_prod_grad"),
        *("cudnn_math_override", "forward_precision", "backward_precision"),
    }
)


@dataclass
class Layer:
    """A layer as it is written onto a graph.

    Attributes:
        name: its name.
        kind: its type.
        message: all that the file says of it.
        bottoms: the tensors it reads.
        tops: count of its outputs.
        graph: the graph.
        arrays: its arrays.
        owners: name of a shared parameter → the initializer that holds it.
        batch: the batch size that the file declares, for shapes that repeat it; None where it declares none.
        scale: for BatchNorm, the Scale layer that alone reads what it writes.
        notes: what the user must know.
    """

    name: str
    kind: str
    message: Message
    bottoms: list[ir.Value]
    tops: int
    graph: GraphWriter
    arrays: Arrays
    owners: dict[str, str]
    batch: int | None = None
    scale: Layer | None = None
    notes: list[str] = field(default_factory=list)
    _options: list[Message] = field(default_factory=list)

    @property
    def x(self) -> ir.Value:
        """The first tensor it reads."""
        if not self.bottoms:
            raise ModelError(f"{self.message.source}: layer {self.name!r} ({self.kind}) reads nothing")
        return self.bottoms[0]

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Sizes of the first tensor, None for the batch."""
        return sizes_of(self.x)

    def size(self, axis: int) -> int:
        """Return a size of the first tensor.

        Raises:
            NotExpressible: it is the batch, or there is no such axis.
        """
        sizes = self.sizes
        size = sizes[axis] if -len(sizes) <= axis < len(sizes) else None
        if size is None:
            raise NotExpressible(f"along axis {axis} of {len(sizes)}")
        return size

    def axis(self, number: int) -> int:
        """Return an axis counted from 0.

        Raises:
            NotExpressible: the first tensor has none such.
        """
        rank = len(self.sizes)
        if not -rank <= number < rank:
            raise NotExpressible(f"along axis {number} of {rank}")
        return number % rank

    def options(self, name: str) -> Message:
        """Return the message that holds the options of the layer's type."""
        message = self.message.message(name)
        self._options.append(message)
        return message

    def unread(self) -> list[str]:
        """Return options that the file gives and no builder read."""
        return [name for message in self._options for name in message.unasked if name not in _HARMLESS]

    # ---- nodes

    def node(self, op: str, inputs: Sequence[ir.Value | None], what: str = "", **attributes: Any) -> ir.Value:
        """Append a node that bears the layer's name, or ``layer/what``."""
        return self.graph.node(op, inputs, f"{self.name}/{what}" if what else self.name, **attributes)

    def number(self, value: float, what: str) -> ir.Value:
        """Return a constant of float32."""
        return self.graph.constant(value, f"{self.name}/{what}", np.float32)

    def ints(self, values: Sequence[int] | int, what: str) -> ir.Value:
        """Return a constant of int64."""
        return self.graph.ints(values, f"{self.name}/{what}")

    def reshape(self, x: ir.Value, sizes: Sequence[int | None], what: str = "") -> ir.Value:
        """Reshape; None, at the front alone, keeps the batch."""
        label = f"{what}.shape" if what else "shape"
        return self.node("Reshape", [x, self.ints([0 if n is None else n for n in sizes], label)], what)

    # ---- arrays

    def weight(
        self,
        what: str,
        index: int,
        shape: Sequence[int],
        *,
        to: Sequence[int] | None = None,
        filler: Message | None = None,
        constant: float = 0.0,
    ) -> ir.Value:
        """Return a parameter, called ``layer.what``; one that layers share is called after the first of them.

        Args:
            what: "weight" or "bias".
            index: place among the layer's arrays.
            shape: the shape that Caffe gives it.
            to: shape that ONNX wants, where it is another.
            filler: how it is drawn without a file.
            constant: value where not even the filler says.
        """
        self.check_sizes(shape, what)
        array = self.arrays.get(self.name, index, shape, filler or Message(self.message.source), constant)
        if to is not None:
            array = array.reshape(to)
        return self.graph.weight(self._owned(f"{self.name}.{what}", index), array)

    def check_sizes(self, shape: Sequence[int], what: str) -> None:
        """Refuse an array without numbers, or one that no machine holds.

        Raises:
            ModelError: a size of 0, or more than 2⁴⁰ numbers.
        """
        if any(size < 1 for size in shape) or math.prod(shape) > 1 << 40:
            raise ModelError(
                f"{self.message.source}: layer {self.name!r} ({self.kind}): its {what} got shape {tuple(shape)}"
            )

    def _owned(self, name: str, index: int) -> str:
        shared = _shared_names(self.message)
        key = shared[index] if index < len(shared) else ""
        return self.owners.setdefault(key, name) if key else name


def _shared_names(message: Message) -> list[str]:
    """Return the names of shared parameters: messages today, strings in V1."""
    names = []
    for value in message.fields.get("param", []):
        names.append(value.string("name") if isinstance(value, Message) else value.text)
    return names
