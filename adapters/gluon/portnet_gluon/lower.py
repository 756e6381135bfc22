"""`GluonLowering`: a canonical graph as one ``mx.sym`` graph, its arrays beside it by ONNX name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.host import HostValue, evaluate_size
from portnet.graph.lowering import Lowering, NodeView
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet_gluon.arrays import DTYPES, check_size
from portnet_gluon.compat import mx
from portnet_gluon.ops import TABLE
from portnet_gluon.ops.registry import Symbol

__all__ = ["GluonLowering"]


class GluonLowering(Lowering[Symbol]):
    """The walk that builds a symbol.

    Attributes:
        arrays: array of every variable that is no graph input, by the name of the variable.
        trainable: names among ``arrays`` that an optimizer may move.
        frozen_statistics: names of running statistics whose layer uses them in training as well.
        silent: names of running means whose layer no gradient reaches. MXNet updates statistics in the backward
            pass, so these are left to the trainer.
        batch_moments: of each silent layer's two statistics, its name, the symbol of the batch's own and the momentum.
    """

    engine = "gluon"
    table = TABLE

    def __init__(
        self, model: Model, frozen_statistics: frozenset[str] = frozenset(), silent: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(model)
        self.arrays: dict[str, np.ndarray] = {}
        self.trainable: set[str] = set()
        self.frozen_statistics = frozen_statistics
        self.silent = silent
        self.batch_moments: list[tuple[str, Symbol, float]] = []

    # ---- hooks

    def make_input(self, value: ir.Value) -> Symbol:
        """Return a variable that carries its dtype, so that MXNet can infer every other one."""
        dtype = "float32" if value.dtype is None else _numpy_name(value)
        if dtype not in DTYPES:
            raise UnsupportedError(f"gluon: input {value.name!r}: MXNet has no arrays of {dtype}", engine="gluon")
        return mx.sym.var(value.name, dtype=dtype)

    def make_parameter(self, value: ir.Value, array: np.ndarray) -> Symbol:
        """Return a variable named as the initializer."""
        name = value.name or ""
        if self.roles[name] is not Role.STATISTIC:
            self.trainable.add(name)
        return self._variable(name, array)

    def make_constant(self, value: ir.Value, array: np.ndarray) -> Symbol:
        """Return a variable named as the tensor, whose array never trains."""
        return self._variable(value.name or "constant", array)

    def constant(self, name: str, array: np.ndarray) -> Symbol:
        """Return a variable for an array that a builder computed; ``name`` is unique by its node's."""
        return self._variable(name, np.asarray(array))

    def _variable(self, name: str, array: np.ndarray) -> Symbol:
        check_size(name, array)
        self.arrays[name] = array
        return mx.sym.var(name, shape=array.shape, dtype=array.dtype)

    def make_symbolic(self, value: ir.Value, host: HostValue) -> Symbol:
        """Return a 1-D int64 tensor computed from the sizes of the tensors that the symbols stand for."""
        sizes = [self.size(entry) for entry in host.array.reshape(-1)]
        joined = mx.sym.concat(*sizes, dim=0) if len(sizes) > 1 else sizes[0]
        shaped = joined if host.array.ndim == 1 else mx.sym.reshape(joined, shape=host.array.shape)
        return shaped if host.dtype in (None, np.dtype(np.int64)) else mx.sym.cast(shaped, dtype=host.dtype)

    def size(self, entry: Any) -> Symbol:
        """Return a host size (an int or an expression) as a tensor of shape (1,), int64."""
        found = evaluate_size(entry, self._axis_size)
        return found if isinstance(found, Symbol) else self.constant(f"size_{found}", np.array([found], np.int64))

    def _axis_size(self, symbol: Any) -> Symbol:
        source, axis = self.symbols[symbol]
        return mx.sym.slice_axis(mx.sym.shape_array(self.value(source)), axis=0, begin=axis, end=axis + 1)

    # ---- names

    def _lower_node(self, node: ir.Node, index: int) -> None:
        with _NodeNames(node.name or f"{node.op_type}_{index}"):
            super()._lower_node(node, index)

    # ---- what builders ask

    def args(self, node: NodeView) -> Iterator[Symbol]:
        """Return the symbols of a node's inputs, all of which are there."""
        return (self.value(value) for value in node.inputs)

    def dtype(self, value: ir.Value | None) -> str:
        """Return numpy's name of a tensor's element type.

        Raises:
            UnsupportedError: it is unknown.
        """
        if value is None or value.dtype is None:
            raise self.unsupported(f"the element type of {'an input' if value is None else value.name!r} is unknown")
        return _numpy_name(value)

    def rank(self, value: ir.Value | None) -> int:
        """Return a tensor's rank.

        Raises:
            UnsupportedError: it is unknown.
        """
        if value is None or value.shape is None:
            raise self.unsupported(f"the rank of {'an input' if value is None else value.name!r} is unknown")
        return len(value.shape)

    def sizes(self, value: ir.Value | None) -> list[int]:
        """Return a tensor's sizes, all of which must be numbers.

        Raises:
            UnsupportedError: one is free or unknown.
        """
        shape = None if value is None else self.static_shape(value)
        if shape is None or None in shape:
            raise self.unsupported(f"needs fixed sizes, but {getattr(value, 'name', None)!r} has shape {shape}")
        return [int(size) for size in shape if size is not None]

    def axis(self, node: NodeView, rank: int, name: str = "axis") -> int:
        """Return an axis attribute, counted from the front."""
        return int(node[name]) % max(rank, 1)


def _numpy_name(value: ir.Value) -> str:
    return "string" if value.dtype == ir.DataType.STRING else str(value.dtype.numpy())  # type: ignore[union-attr]


class _NodeNames(mx.name.NameManager):  # type: ignore[misc]
    """Names operators that a builder leaves unnamed after the node: ``conv1_pad0``."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def get(self, name: str | None, hint: str) -> str:
        """Return the builder's own name, or the node's with the operator's and a number."""
        return name or f"{self._node}_{super().get(None, hint)}"
