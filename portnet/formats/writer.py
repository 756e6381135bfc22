"""`GraphWriter`: write an ONNX graph layer by layer; types and shapes are known as it grows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.layers import STAGE_MARK
from portnet.graph.metadata import Metadata
from portnet.graph.model import Model
from portnet.graph.names import take_name
from portnet.graph.parameters import mark_constant
from portnet.graph.passes.shapes import infer_node

__all__ = ["OPSET", "GraphWriter", "rank_of", "sizes_of"]

OPSET = 21
IR_VERSION = 10
# numbers of one result at a batch of 1: 8 GB of them
_MOST_NUMBERS = 1 << 31


class GraphWriter:
    """Appends nodes to an ONNX graph of opset 21.

    A node is named after the source's layer, and its first output tensor bears the same name, so that a tensor can be
    found again in the source. Further nodes of the same layer are called ``layer/what``. A name that is taken gets a
    number.

    Args:
        name: the graph's name.
    """

    def __init__(self, name: str) -> None:
        self._graph = ir.Graph([], [], nodes=(), opset_imports={"": OPSET}, name=name)
        self._taken: set[str] = set()
        self._stage = ""
        self._made: dict[ir.Value, int] = {}

    # ---- values

    def input(self, name: str, shape: Sequence[int | str | None], dtype: Any = np.float32) -> ir.Value:
        """Add an input; a string in ``shape`` is a free size."""
        value = ir.Value(name=self._fresh(name), shape=ir.Shape(shape), type=ir.TensorType(_data_type(dtype)))
        self._graph.inputs.append(value)
        return value

    def weight(self, name: str, array: np.ndarray) -> ir.Value:
        """Add an array that the network learned (weight, bias or running statistic) under the source's name.

        An array may be a read-only view of a file; it is not copied. One that was added already is returned.
        """
        known = self._graph.initializers.get(name)
        if known is not None:
            if known.const_value is not None and known.const_value.shape.numpy() != array.shape:
                raise ModelError(
                    f"weights: {name!r} got shapes {array.shape} and {known.const_value.shape.numpy()} at once"
                )
            return known
        return self._initializer(self._fresh(name), array)

    def constant(self, array: Any, name: str, dtype: Any = None) -> ir.Value:
        """Add an array that is no parameter: a shape, an axis, a bound, a number of the architecture."""
        value = self._initializer(self._fresh(name), np.asarray(array, dtype))
        mark_constant(value)
        return value

    def ints(self, numbers: Sequence[int] | int, name: str) -> ir.Value:
        """Add a constant of int64."""
        return self.constant(numbers, name, np.int64)

    # ---- nodes

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """Append a node of one output and return it. Attributes that are None are left out."""
        return self.nodes(op, inputs, name, count=1, domain=domain, **attributes)[0]

    def nodes(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        *,
        count: int,
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Append a node of ``count`` outputs, called ``name``, ``name.1``, ``name.2``, ..., and return them."""
        label = self._fresh(name)
        outputs = [ir.Value(name=label if i == 0 else self._fresh(f"{label}.{i}")) for i in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        props = {STAGE_MARK: self._stage} if self._stage else None
        node = ir.node(op, inputs, given, outputs=outputs, name=label, domain=domain, metadata_props=props)
        self._graph.append(node)
        infer_node(node, OPSET)
        self._made.update(dict.fromkeys(outputs, len(self._made)))
        return outputs

    @property
    def count(self) -> int:
        """Count of the tensors that nodes have given so far; see `made_since`."""
        return len(self._made)

    def made_since(self, value: ir.Value, count: int) -> bool:
        """Whether a node added after `count` was read gives the tensor."""
        return self._made.get(value, -1) >= count

    def rename(self, value: ir.Value, name: str) -> None:
        """Give a tensor, and the node whose first output it is, another name."""
        value.name = self._fresh(name)
        node = value.producer()
        if node is not None and value.index() == 0:
            node.name = value.name

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Mark the nodes added inside the ``with`` as belonging to a stage, for policies and drawings."""
        before, self._stage = self._stage, name
        yield
        self._stage = before

    # ---- the end

    def finish(
        self, outputs: Sequence[ir.Value], names: Sequence[str] | None = None, *, metadata: Metadata | None = None
    ) -> Model:
        """Return the model; an output keeps its tensor's name, unless ``names`` gives it another.

        An output that is an input or an initializer, or that is named twice, passes through an Identity. What no output
        depends on is left out.
        """
        for index, value in enumerate(outputs):
            wanted = names[index] if names else value.name or ""
            if value.producer() is None or value in self._graph.outputs:
                value = self.node("Identity", [value], wanted)
            elif value.name != wanted:
                value.name = self._fresh(wanted)
            self._graph.outputs.append(value)
        for node in reversed(list(self._graph)):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self._graph.remove(node, safe=True)
        for node in self._graph:
            self._check_sizes(node)
        for name, value in list(self._graph.initializers.items()):
            if not list(value.uses()):
                del self._graph.initializers[name]
        return Model(ir.Model(self._graph, ir_version=IR_VERSION, producer_name="portnet"), metadata)

    # ---- how

    def _check_sizes(self, node: ir.Node) -> None:
        """Refuse a result that no network needs for one image: a file of a few bytes may ask for it.

        Raises:
            ModelError: names the node.
        """
        for value in node.outputs:
            sizes = [size for size in value.shape or () if isinstance(size, int)]
            if math.prod(sizes) > _MOST_NUMBERS:
                raise ModelError(
                    f"layer {node.name!r} ({node.op_type}): got a result of sizes {sizes}, expected at most "
                    f"{_MOST_NUMBERS:,} numbers. Refused."
                )

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = ir.Tensor(array, name=name, dtype=_data_type(array.dtype))
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _fresh(self, base: str) -> str:
        return take_name(base, self._taken)


def _data_type(dtype: Any) -> ir.DataType:
    return ir.DataType.from_numpy(np.dtype(dtype))


def rank_of(value: ir.Value) -> int:
    """Return the number of axes of a tensor.

    Raises:
        ModelError: it is not known.
    """
    if value.shape is None:
        raise ModelError(f"tensor {value.name!r}: got an unknown rank, expected a known one")
    return len(value.shape)


def sizes_of(value: ir.Value) -> tuple[int | None, ...]:
    """Return the sizes of a tensor, None for a free one.

    Raises:
        ModelError: not even its rank is known.
    """
    rank_of(value)
    assert value.shape is not None
    return tuple(size if isinstance(size, int) else None for size in value.shape)
