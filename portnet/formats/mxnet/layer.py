"""`Layer`: what a builder sees of one operator of a symbol, and `Refused`, what it raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.attributes import Attributes
from portnet.formats.mxnet.symbol import Entry, Node
from portnet.formats.writer import GraphWriter, rank_of, sizes_of
from portnet.weights.init import Init, constant

if TYPE_CHECKING:
    from portnet.formats.mxnet.translate import Walk

__all__ = ["DTYPES", "TABLE", "Builder", "Layer", "Refused", "op"]

# mshadow's type flags, as variables and some operators write them
DTYPES = {
    **{"0": "float32", "1": "float64", "2": "float16", "3": "uint8", "4": "int32", "5": "int8", "6": "int64"},
    "7": "bool",
}
_NAMES = frozenset(DTYPES.values())


class Refused(Exception):  # noqa: N818 - what happens to a layer, not what went wrong
    """A layer that has no translation, and why."""


class Layer:
    """One operator of a symbol.

    Attributes:
        name: the layer's name, and that of its first output.
        op: MXNet's name of the operator.
        attributes: its parameters.
        writer: the graph.
    """

    def __init__(self, walk: Walk, node: Node) -> None:
        self.name, self.op = node.name, node.op
        self.writer: GraphWriter = walk.writer
        self.attributes = Attributes(node.attributes, f"layer {node.name!r} ({node.op})")
        self._walk, self._node = walk, node

    # ---- what it reads

    @property
    def count(self) -> int:
        """How many inputs it has."""
        return len(self._node.inputs)

    def value(self, index: int) -> ir.Value:
        """Return an input, whether another layer's output, the network's input or a learned array."""
        return self._walk.value(self._entry(index))

    def values(self) -> list[ir.Value]:
        """Return all inputs."""
        return [self.value(index) for index in range(self.count)]

    def parameter(
        self,
        index: int,
        shape: Sequence[int],
        init: Init,
        *,
        arrange: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> ir.Value:
        """Return an input that is a learned array.

        Args:
            index: which input.
            shape: what MXNet would infer for it.
            init: how to draw it where the network came without weights.
            arrange: makes ONNX's layout of MXNet's.

        Raises:
            WeightsError: the array is missing or has another shape.
        """
        return self._walk.parameter(self._entry(index), tuple(shape), init, arrange)

    def fixed(self, index: int, width: int, fill: float) -> ir.Value:
        """Return an input that is a vector which neither training moves nor the file decides: all ``fill``."""
        return self._walk.fixed(self._entry(index), width, fill)

    def array(self, index: int) -> np.ndarray | None:
        """Return the numbers of an input that are known now (learned, or joined from what is), else None."""
        return self._walk.array(self._entry(index))

    def variable(self, index: int) -> str | None:
        """Return the name of the variable that an input is, or None."""
        return self._walk.variable(self._entry(index))

    def sources(self, index: int) -> list[str]:
        """Return the variables that an input is computed from, by the model's names, in the symbol's order."""
        return self._walk.sources(self._entry(index))

    def reads_zeros(self, index: int) -> bool:
        """Whether an input is nothing but zeros, whatever its shape."""
        return self._walk.symbol.nodes[self._entry(index).node].op == "_zeros"

    def _entry(self, index: int) -> Entry:
        if index >= self.count:
            raise ModelError(f"layer {self.name!r} ({self.op}): got {self.count} inputs, expected one more")
        return self._node.inputs[index]

    # ---- what it writes

    def final(self, op: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """Append the node whose output is the layer's."""
        return self.writer.node(op, inputs, self.name, **attributes)

    def step(self, op: str, inputs: Sequence[ir.Value | None], what: str, **attributes: Any) -> ir.Value:
        """Append a node on the way, called ``layer/what``."""
        return self.writer.node(op, inputs, f"{self.name}/{what}", **attributes)

    def ints(self, numbers: Sequence[int] | int, what: str) -> ir.Value:
        """Add a constant of int64, called ``layer/what``."""
        return self.writer.ints(numbers, f"{self.name}/{what}")

    def scalar(self, number: float, like: ir.Value, what: str = "scalar") -> ir.Value:
        """Add a number in the element type of ``like``."""
        dtype = np.dtype(np.float32) if like.dtype is None else like.dtype.numpy()
        if dtype.kind in "iu" and float(number).is_integer():
            number = int(number)
        with np.errstate(over="ignore"):
            return self.writer.constant(number, f"{self.name}/{what}", dtype)

    # ---- sizes

    def rank(self, value: ir.Value) -> int:
        """Return the count of axes."""
        return rank_of(value)

    def sizes(self, value: ir.Value) -> tuple[int | None, ...]:
        """Return the sizes of a tensor, None for a free one."""
        return sizes_of(value)

    def size(self, value: ir.Value, axis: int) -> int:
        """Return a size that must be known.

        Raises:
            Refused: it is free.
        """
        size = sizes_of(value)[axis]
        if size is None:
            raise Refused(f"needs the size of axis {axis}, which is free")
        return size

    def axis(self, axis: int, rank: int) -> int:
        """Return a legal axis counted from the first.

        Raises:
            ModelError: the tensor has no such axis.
        """
        if not -rank <= axis < rank:
            raise ModelError(f"layer {self.name!r} ({self.op}): got axis {axis}, expected one of {rank} axes")
        return axis % rank

    def permuted(self, value: ir.Value, order: Sequence[int], what: str) -> ir.Value:
        """Return a tensor with its axes in another order."""
        return self.step("Transpose", [value], what, perm=list(order))

    def dtype(self, text: str) -> np.dtype:
        """Return the element type that a word or mshadow's flag means."""
        name = DTYPES.get(text, text)
        if name not in _NAMES:
            raise Refused(f"element type {text!r}")
        return np.dtype(name)

    def note(self, sentence: str) -> None:
        """Tell the user something about the whole network, once."""
        self._walk.note(sentence)


Builder = Callable[[Layer], "ir.Value | Sequence[ir.Value]"]
TABLE: dict[str, Builder] = {}


def op(*names: str) -> Callable[[Builder], Builder]:
    """Register a builder under MXNet's names of an operator, old and new."""

    def register(builder: Builder) -> Builder:
        for name in names:
            TABLE[name] = builder
        return builder

    return register


ONES, ZEROS = constant(1), constant(0)
