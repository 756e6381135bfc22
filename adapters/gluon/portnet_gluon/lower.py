"""`GluonLowering`: a canonical graph as one ``mx.sym`` graph, its arrays beside it by ONNX name."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.host import HostValue
from portnet.graph.lowering import Lowering, NodeView
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.graph.sizes import evaluate_size
from portnet_gluon.arrays import DTYPES, check_size
from portnet_gluon.carriers import CARRIERS, INTEGERS, carried
from portnet_gluon.compat import mx
from portnet_gluon.ops import TABLE
from portnet_gluon.ops.registry import Symbol, numpy_op
from portnet_gluon.ops.wrap import wrapped

__all__ = ["NOTHING", "GluonLowering", "Variant"]

# the input of a network that reads none
NOTHING = "portnet.nothing"


class Variant:
    """How a network is to behave where MXNet offers a choice.

    Attributes:
        frozen_statistics: names of running statistics whose layer uses them in training as well.
        silent: names of running means whose layer no gradient reaches. MXNet updates statistics in the backward
            pass, so these are left to the trainer.
        nan_safe: whether NaN passes through every operator. oneDNN's ReLU and max pooling turn it into numbers;
            the operators that do not are slower.
    """

    def __init__(
        self,
        frozen_statistics: frozenset[str] = frozenset(),
        silent: frozenset[str] = frozenset(),
        *,
        nan_safe: bool = False,
    ) -> None:
        self.frozen_statistics, self.silent, self.nan_safe = frozen_statistics, silent, nan_safe


class GluonLowering(Lowering[Symbol]):
    """The walk that builds a symbol.

    Attributes:
        variant: see `Variant`.
        arrays: array of every variable that is no graph input, by the name of the variable.
        trainable: names among ``arrays`` that an optimizer may move.
        batch_moments: of each silent layer's two statistics, its name, the symbol of the batch's own and the momentum.
    """

    engine = "gluon"
    table = TABLE

    def __init__(self, model: Model, variant: Variant) -> None:
        super().__init__(model)
        self.variant = variant
        self.arrays: dict[str, np.ndarray] = {}
        self.trainable: set[str] = set()
        self.batch_moments: list[tuple[str, Symbol, float]] = []
        self._variables: dict[str, Symbol] = {}
        self._shapes: dict[ir.Value, tuple[int, ...] | None] = {}

    def branch(self, graph: ir.Graph, inputs: Sequence[Symbol]) -> list[Symbol]:
        """Write out a subgraph in place, its inputs bound to symbols; return the symbols of its outputs."""
        child = copy.copy(self)
        child.graph, child._shapes, child.symbols = graph, {}, ChainMap({}, self.symbols)  # type: ignore[arg-type]
        child.values = {**self.values, **dict(zip(graph.inputs, inputs, strict=True))}
        child.host_values = {key: host for key, host in self.host_values.items() if key not in set(graph.inputs)}
        return child.walk()

    # ---- hooks

    def make_input(self, value: ir.Value) -> Symbol:
        """Return a variable that carries its dtype, so that MXNet can infer every other one."""
        if isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
            raise UnsupportedError(f"gluon: input {value.name!r}: got {value.type}, expected a tensor", engine="gluon")
        dtype = "float32" if value.dtype is None else carried(_numpy_name(value))
        if dtype not in DTYPES:
            raise UnsupportedError(f"gluon: input {value.name!r}: MXNet has no arrays of {dtype}", engine="gluon")
        return mx.sym.var(value.name, dtype=dtype)

    def make_parameter(self, value: ir.Value, array: np.ndarray) -> Symbol:
        """Return a variable named as the initializer."""
        name = value.name or ""
        if self.roles[name] is not Role.STATISTIC:
            self.trainable.add(name)
        return self.variable(name, array)

    def make_constant(self, value: ir.Value, array: np.ndarray) -> Symbol:
        """Return a variable named as the tensor, whose array never trains."""
        return self.variable(value.name or "constant", array.reshape(1) if _is_row(value, array) else array)

    def variable(self, name: str, array: np.ndarray) -> Symbol:
        """Return the variable that holds ``array``, called ``name`` unless another array has that name."""
        array = np.asarray(array)
        array = array.astype(CARRIERS.get(array.dtype.name, array.dtype), copy=False)
        check_size(name, array)
        if not array.size:
            # Gluon has no empty parameters
            return _zeros(array.shape, array.dtype.name)
        while name in self.arrays and not _same(self.arrays[name], array):
            name += "_"
        if name not in self.arrays:
            self.arrays[name] = array
            self._variables[name] = mx.sym.var(name, shape=array.shape, dtype=array.dtype)
        return self._variables[name]

    def make_symbolic(self, value: ir.Value, host: HostValue) -> Symbol:
        """Return an integer tensor computed from the sizes of the tensors that the symbols stand for."""
        sizes = [self.size(entry, f"{value.name}.{i}") for i, entry in enumerate(host.array.reshape(-1))]
        joined = mx.sym.concat(*sizes, dim=0) if len(sizes) > 1 else sizes[0]
        shaped = joined if host.array.ndim == 1 else mx.sym.reshape(joined, shape=host.array.shape)
        return shaped if host.dtype in (None, np.dtype(np.int64)) else mx.sym.cast(shaped, dtype=host.dtype)

    def size(self, entry: Any, name: str) -> Symbol:
        """Return a host size (an int or an expression) as a tensor of shape (1,), int64."""
        found = evaluate_size(entry, self._axis_size, _larger)
        return found.symbol if isinstance(found, _Size) else self.variable(name, np.array([found], np.int64))

    def _axis_size(self, symbol: Any) -> _Size:
        source, axis = self.symbols[symbol]
        shape = mx.sym.shape_array(self.value(source))
        return _Size(mx.sym.slice_axis(shape, axis=0, begin=axis, end=axis + 1))

    # ---- the walk

    def _lower_node(self, node: ir.Node, index: int) -> None:
        if node.outputs and all(map(_is_empty, node.outputs)):
            # nothing to compute, and several operators fail on empty results
            self.values.update({value: _zeros(tuple(self.sizes(value)), self.dtype(value)) for value in node.outputs})
            # a part of a shape may be empty too, and shape arithmetic goes on with it
            shapes = [value for value in node.outputs if value.dtype == ir.DataType.INT64]
            self.host_values.update({value: HostValue(np.zeros(self.sizes(value), np.int64)) for value in shapes})
            return
        with _NodeNames(node.name or f"{node.op_type}_{index}"):
            super()._lower_node(node, index)

    def _bind(self, node: NodeView, produced: Any) -> None:
        super()._bind(node, produced)
        for value in node.outputs:
            if value in self.values and value.dtype is not None and _numpy_name(value) in INTEGERS:
                self.values[value] = wrapped(self.values[value], _numpy_name(value))

    def static_shape(self, value: ir.Value) -> tuple[int | None, ...] | None:  # type: ignore[override]
        """Inferred shape; where ONNX's inference gave up, MXNet's."""
        if value in self.host_values:
            return tuple(self.host_values[value].array.shape)
        shape = super().static_shape(value)
        gave_up = shape is None or (None in shape and self._is_fixed)
        if not gave_up or value not in self.values:
            return shape
        if value not in self._shapes:
            self._shapes[value] = self.shape_of(self.values[value])
        return self._shapes[value] or shape

    @functools.cached_property
    def _is_fixed(self) -> bool:
        """Whether the sizes of all inputs are numbers."""
        shapes = [Lowering.static_shape(value) for value in self.model.ir.graph.inputs]
        return all(shape is not None and None not in shape for shape in shapes)

    def shape_of(self, symbol: Symbol) -> tuple[int, ...] | None:
        """Return the shape that MXNet infers from the inputs' fixed sizes, or None where that leaves one open."""
        read = set(symbol.list_inputs())
        known = {
            each.name: tuple(size if isinstance(size, int) else -1 for size in each.shape)
            for each in self.model.ir.graph.inputs
            if each.name in read and each.shape is not None
        }
        shapes = symbol.infer_shape_partial(**known)[1]
        found = shapes[0] if shapes else None
        return None if found is None or -1 in found else tuple(found)

    # ---- what builders ask

    @contextlib.contextmanager
    def rebound(self, values: Mapping[ir.Value, Symbol]) -> Iterator[None]:
        """Give some values other symbols for a while."""
        before = {value: self.values[value] for value in values}
        self.values.update(values)
        try:
            yield
        finally:
            self.values.update(before)

    def args(self, node: NodeView) -> list[Symbol]:
        """Return the symbols of a node's inputs, all of which are there."""
        return [self.value(value) for value in node.inputs]

    def constant(self, node: NodeView, role: str, array: np.ndarray) -> Symbol:
        """Return a variable for an array that a builder computed."""
        return self.variable(f"{node.name}_{role}", array)

    def dtype(self, value: ir.Value | None) -> str:
        """Return numpy's name of the element type that MXNet holds a tensor in.

        Raises:
            UnsupportedError: it is unknown.
        """
        if value is None:
            raise self.unsupported("an input that this op needs is missing")
        return carried(self.onnx_dtype(value))

    def onnx_dtype(self, value: ir.Value) -> str:
        """Return the name of the element type that a tensor has in ONNX; where that is unknown, in MXNet.

        Raises:
            UnsupportedError: neither is known.
        """
        if value.dtype is not None:
            return _numpy_name(value)
        types = self.values[value].infer_type()[1] if value in self.values else None
        if not types:
            raise self.unsupported(f"the element type of {value.name!r} is unknown")
        return np.dtype(types[0]).name

    def rank(self, value: ir.Value | None) -> int:
        """Return a tensor's rank.

        Raises:
            UnsupportedError: it is unknown.
        """
        shape = None if value is None else self.static_shape(value)
        if shape is None:
            raise self.unsupported(f"the rank of {'an input' if value is None else repr(value.name)} is unknown")
        return len(shape)

    def sizes(self, value: ir.Value | None) -> list[int]:
        """Return a tensor's sizes, all of which must be numbers.

        Raises:
            UnsupportedError: one is free or unknown.
        """
        shape = None if value is None else self.static_shape(value)
        if shape is None or None in shape:
            raise self.unsupported(f"needs fixed sizes, but {getattr(value, 'name', None)!r} has shape {shape}")
        return [int(size) for size in shape if size is not None]

    def spatial(self, value: ir.Value | None) -> list[int]:
        """Return the sizes from the third axis on, all of which must be numbers; batch and channels may be free.

        Raises:
            UnsupportedError: one is free or unknown.
        """
        shape = None if value is None else self.static_shape(value)
        if shape is None or None in shape[2:]:
            raise self.unsupported(f"needs a fixed size, but {getattr(value, 'name', None)!r} has shape {shape}")
        return [int(size) for size in shape[2:] if size is not None]

    def axis(self, node: NodeView, rank: int, name: str = "axis") -> int:
        """Return an axis attribute, counted from the front."""
        return int(node[name]) % max(rank, 1)


class _Size:
    """A size while the network runs, shape (1,) int64, with the arithmetic that sizes need."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol

    def __add__(self, other: Any) -> _Size:
        return _Size(_with(mx.sym.broadcast_add, self.symbol, other, lambda n: self.symbol + n))

    def __mul__(self, other: Any) -> _Size:
        return _Size(_with(mx.sym.broadcast_mul, self.symbol, other, lambda n: self.symbol * n))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> _Size:
        return self * -1

    def __floordiv__(self, other: Any) -> _Size:
        numerator = self.symbol
        divisor = other.symbol if isinstance(other, _Size) else mx.sym.ones_like(numerator) * other
        remainder = mx.sym.broadcast_mod(numerator, divisor)
        return _Size(mx.sym.broadcast_div(numerator - remainder, divisor))


def _larger(a: Any, b: Any) -> Any:
    size, other = (a, b) if isinstance(a, _Size) else (b, a)
    return _Size(_with(mx.sym.broadcast_maximum, size.symbol, other, lambda n: mx.sym.maximum(size.symbol, n)))


def _with(binary: Any, symbol: Symbol, other: Any, scalar: Any) -> Symbol:
    return binary(symbol, other.symbol) if isinstance(other, _Size) else scalar(int(other))


def _zeros(shape: tuple[int, ...], dtype: str) -> Symbol:
    return numpy_op("zeros", shape=shape, dtype=dtype)


def _is_row(value: ir.Value, array: np.ndarray) -> bool:
    """Whether a number may be an array of one: everything that reads it broadcasts it to something with axes.

    Outside ``mx.util.np_shape`` a shape without axes is an unknown one, and the block would not run.
    """
    uses = tuple(value.uses())
    if value.is_graph_output():
        return False
    return array.ndim == 0 and bool(uses) and all(_broadcasts(node, index) for node, index in uses)


def _broadcasts(node: ir.Node, index: int) -> bool:
    others = [other for place, other in enumerate(node.inputs) if place != index and other is not None]
    return node.op_type in _BROADCASTING and any(other.shape is not None and len(other.shape) for other in others)


_BROADCASTING = frozenset({"Add", "Sub", "Sum", "Mul", "Div", "Pow", "Max", "Min", "Where", "Equal", "Less", "Greater"})


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b))


def _is_empty(value: ir.Value) -> bool:
    shape = Lowering.static_shape(value)
    return value.dtype is not None and shape is not None and None not in shape and 0 in shape


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
