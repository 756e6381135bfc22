"""`Lowering`: the walk over a canonical graph that every engine shares.

An adapter subclasses it with a table ``op name -> builder`` and five small hooks. The walk visits nodes in order,
keeps shape arithmetic on the host (`portnet.graph.host`), fills attribute defaults from the standard's
schemas, and turns whatever a builder raises into one line that names op, opset, attribute and node.

A builder is ``def conv(walk, node) -> T | Sequence[T]`` where ``node`` is a `NodeView`, and T is the engine's
own value (a recorded call, a KerasTensor, an mx.sym.Symbol).
"""

from __future__ import annotations

import abc
import functools
import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, PortNetError, UnsupportedError
from portnet.graph.floors import FLOORS, Floors
from portnet.graph.host import HostValue, evaluate, shape_of
from portnet.graph.host_rules import RULES
from portnet.graph.model import Model
from portnet.graph.parameters import Role, roles
from portnet.graph.schema import HINTS, attribute_defaults
from portnet.graph.sizes import SIZES, register_sizes
from portnet.graph.storage import to_copy
from portnet.graph.turned import turned_weight

__all__ = ["Builder", "HostValueNeededError", "Lowering", "NodeView", "op_name"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

T = TypeVar("T")
Builder = Callable[[Any, "NodeView"], Any]


def op_name(node: ir.Node) -> str:
    """Name of an op as tables spell it: ``Relu``, ``com.microsoft.Gelu``, ``ai.onnx.ml.Scaler``."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


class HostValueNeededError(UnsupportedError):
    """A builder needs a tensor's value while building (a shape, axes, k), and it depends on the inputs.

    ``value`` is that tensor; `portnet.testing` binds the graph inputs above it and lowers again.
    """

    def __init__(self, value: ir.Value) -> None:
        super().__init__(f"the value of {value.name!r} must be known when the network is built, but it is computed")
        self.value = value


class NodeView:
    """A node as a builder sees it: attributes as plain Python with the schema's defaults filled in.

    Attributes:
        ir: the node itself.
        op: op name, see `op_name`.
        name: the node's name, never empty.
        opset: version of its operator set.
        inputs: values read, None where an optional input is left out.
        outputs: values written; an output that is left out has the name "".
    """

    def __init__(self, node: ir.Node, opset: int, index: int = 0) -> None:
        self.ir = node
        self.op = op_name(node)
        self.name = node.name or f"{node.op_type}_{index}"
        self.opset = opset
        self.inputs: list[ir.Value | None] = list(node.inputs)
        self.outputs: list[ir.Value] = list(node.outputs)

    @functools.cached_property
    def attributes(self) -> dict[str, Any]:
        """Python values by name (int, float, str, list, np.ndarray, ir.Graph)."""
        node = self.ir
        given = {name: _python(attribute) for name, attribute in node.attributes.data.items()}
        return {**attribute_defaults(node.domain, node.op_type, self.opset), **given}

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes[attribute]

    def get(self, attribute: str, default: Any = None) -> Any:
        """Return an attribute, or ``default`` where neither the node nor the schema gives one."""
        return self.attributes.get(attribute, default)

    def input(self, index: int) -> ir.Value | None:
        """Return input ``index``, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> ir.Value:
        """Return input ``index``.

        Raises:
            ModelError: it is left out.
        """
        value = self.input(index)
        if value is None:
            raise ModelError(f"{self.describe()}: input {index} is missing")
        return value

    def describe(self) -> str:
        """Return "Op (opset n) node 'name'", as errors say it."""
        return f"{self.op} (opset {self.opset}) node {self.name!r}"


def _one_line(error: Exception) -> str:
    """Return what a framework says, without the colours and line breaks that are meant for a terminal."""
    return " ".join(_COLOURS.sub("", str(error)).split())


def _python(attr: ir.Attr) -> Any:
    if attr.type == ir.AttributeType.TENSOR:
        return attr.value.numpy()
    if attr.type == ir.AttributeType.STRING:
        return attr.as_string()
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return list(attr.value)
    return attr.value


class Lowering(abc.ABC, Generic[T]):
    """Walks one canonical graph and binds every value to the engine's own.

    Class attributes:
        engine: the adapter's name, for messages.
        table: op name -> builder.
        takes_turned: whether its MatMul takes over a matrix that is turned for it (`portnet.graph.turned`).

    Attributes:
        model: the canonical model.
        graph: the graph being walked (a subgraph, inside If and Loop).
        roles: role of every initializer by name.
        values: the engine's value of each ONNX value so far.
        host_values: values known on the host, shape arithmetic included.
        symbols: for each free size a tensor and an axis where it can be read.
        named_sizes: what the names of sizes stand for that follow from others (`portnet.graph.passes.sizes`).
        floors: the symbols of sizes behind windows (`portnet.graph.floors`).
    """

    engine: ClassVar[str]
    table: ClassVar[Mapping[str, Builder]]
    takes_turned: ClassVar[bool] = False

    def __init__(self, model: Model, graph: ir.Graph | None = None) -> None:
        self.model = model
        self.graph = graph if graph is not None else model.ir.graph
        self.roles: dict[str, Role] = roles(model.ir)
        self.values: dict[ir.Value, T] = {}
        self.host_values: dict[ir.Value, HostValue] = {}
        self.symbols: MutableMapping[Any, tuple[ir.Value, int]] = {}
        self.named_sizes: Mapping[str, Any] = model.ir.graph.meta.get(SIZES, {})
        self.floors = model.ir.graph.meta.get(FLOORS) or Floors()

    # ---- hooks that an engine fulfils

    @abc.abstractmethod
    def make_input(self, value: ir.Value) -> T:
        """Return the engine's value of a graph input."""

    @abc.abstractmethod
    def make_parameter(self, value: ir.Value, array: np.ndarray) -> T:
        """Return a trainable parameter (or statistic) as a plain tensor, for ops that have no layer of their own.

        ``array`` is to be copied: see `portnet.graph.storage.to_copy`.
        """

    @abc.abstractmethod
    def make_constant(self, value: ir.Value, array: np.ndarray) -> T:
        """Return an array that never trains."""

    @abc.abstractmethod
    def make_symbolic(self, value: ir.Value, host: HostValue) -> T:
        """Return a tensor from a host value whose entries are symbolic sizes (see `portnet.graph.host`)."""

    # ---- the walk

    def walk(self) -> list[T]:
        """Lower inputs, then nodes in order; return the engine's values of the graph's outputs."""
        initializers = self.graph.initializers
        for value in self.graph.inputs:
            if value.name not in initializers and value not in self.values:
                self.values[value] = self._input_made(value)
                register_sizes(self, value)
        for index, node in enumerate(self.graph):
            self._lower_node(node, index)
        return [self.value(output) for output in self.graph.outputs]

    def _input_made(self, value: ir.Value) -> T:
        """Return the engine's value of an input; what is refused names the node that reads it first."""
        try:
            return self.make_input(value)
        except UnsupportedError as error:
            reader = next((node for node in self.graph if value in node.inputs), None)
            if error.node or reader is None:
                raise
            view = NodeView(reader, self._opset(reader.domain))
            told = f"{str(error).rstrip('.')}; {value.name!r} is read by {view.describe()}"
            raise UnsupportedError(told, engine=self.engine, op=view.op, node=view.name) from error

    def _lower_node(self, node: ir.Node, index: int) -> None:
        if self.takes_turned and turned_weight(self, node.outputs[0]) is not None:
            return
        view = NodeView(node, self._opset(node.domain), index)
        try:
            if self._lower_on_host(view):
                return
            produced = self._built(view)
        except HostValueNeededError as error:
            if error.node:
                raise
            needed = HostValueNeededError(error.value)
            needed.args = (f"{self.engine}: {view.describe()}: {error}",)
            needed.engine, needed.op, needed.node = self.engine, view.op, view.name
            raise needed from error
        except UnsupportedError as error:
            if error.node:
                raise
            raise UnsupportedError(
                f"{self.engine}: {view.describe()}: {error}", engine=self.engine, op=view.op, node=view.name
            ) from error
        except PortNetError:
            raise
        except RecursionError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"{self.engine}: {view.describe()}: {type(error).__name__}: {_one_line(error)}",
                engine=self.engine,
                op=view.op,
                node=view.name,
            ) from error
        self._bind(view, produced)

    def _built(self, view: NodeView) -> Any:
        builder = self.table.get(view.op)
        if builder is None:
            raise UnsupportedError(f"the engine has no lowering for this op{HINTS.get(view.ir.domain, '')}")
        return builder(self, view)

    def _opset(self, domain: str) -> int:
        imports = self.model.ir.graph.opset_imports
        return imports.get(domain, imports.get("ai.onnx", 1) if domain == "" else 1)

    def _lower_on_host(self, node: NodeView) -> bool:
        """Evaluate shape arithmetic; True when the node's outputs are now known on the host."""
        if node.op in ("Shape", "Size"):
            source = node.required(0)
            if source in self.host_values or source.shape is not None:
                self.host_values[node.outputs[0]] = shape_of(self, node, source)
                return True
            return False
        if node.op not in RULES:
            return False
        inputs: list[HostValue | None] = []
        for value in node.inputs:
            known = None if value is None else self.try_host(value)
            if value is not None and known is None:
                return False
            inputs.append(known)
        results = evaluate(node, inputs, self.floors)
        if results is None:
            return False
        for value, result in zip(node.outputs, results, strict=False):
            self.host_values[value] = result
        return True

    def _bind(self, node: NodeView, produced: Any) -> None:
        results = list(produced) if isinstance(produced, (list, tuple)) else [produced]
        if len(results) < len(node.outputs) and any(v.name for v in node.outputs[len(results) :]):
            raise UnsupportedError(
                f"{self.engine}: {node.describe()}: output {node.outputs[len(results)].name!r} is not produced",
                engine=self.engine,
                op=node.op,
                node=node.name,
            )
        for value, result in zip(node.outputs, results, strict=False):
            if value.name:
                self.values[value] = result
                register_sizes(self, value)

    # ---- what builders ask

    def value(self, value: ir.Value | None) -> T:
        """Return the engine's tensor of an ONNX value, made from an initializer or host value on first use."""
        if value is None:
            raise ModelError("an input that this op needs is missing")
        if value not in self.values:
            self.values[value] = self._materialise(value)
        return self.values[value]

    def optional(self, value: ir.Value | None) -> T | None:
        """Return `value`, or None where the input is left out."""
        return None if value is None else self.value(value)

    def inputs(self, node: NodeView) -> list[T | None]:
        """Return the engine's tensors of all of a node's inputs, None where one is left out."""
        return [self.optional(value) for value in node.inputs]

    def _materialise(self, value: ir.Value) -> T:
        host = self.host_values.get(value)
        if host is not None:
            if not host.is_symbolic:
                return self.make_constant(value, host.array)
            node = value.producer()
            if host.is_whole or node is None:
                return self.make_symbolic(value, host)
            # half a size is no size: the engine's floats compute it from what is whole
            view = NodeView(node, self._opset(node.domain))
            self._bind(view, self._built(view))
            return self.values[value]
        if value.const_value is None:
            raise ModelError(f"tensor {value.name!r} is read before anything writes it")
        role = self.roles.get(value.name or "", Role.CONSTANT)
        if role is Role.CONSTANT:
            self.host_values[value] = known = HostValue(value.const_value.numpy())
            return self.make_constant(value, known.array)
        return self.make_parameter(value, to_copy(value.const_value))

    def try_host(self, value: ir.Value) -> HostValue | None:
        """Return a value known on the host (constants and shape arithmetic), or None; never a trainable weight."""
        host = self.host_values.get(value)
        if host is None and value not in self.values and value.const_value is not None:
            if self.roles.get(value.name or "", Role.CONSTANT) is not Role.CONSTANT:
                return None
            host = self.host_values[value] = HostValue(value.const_value.numpy())
        return host

    def try_number(self, value: ir.Value) -> Any:
        """Return a plain number that is known on the host, or None where it is computed, symbolic, or not one."""
        known = self.try_host(value)
        return None if known is None or known.is_symbolic or known.array.size != 1 else known.array.item()

    def host(self, value: ir.Value | None) -> np.ndarray:
        """Return a constant's numbers.

        Raises:
            HostValueNeededError: it is computed from the inputs, or holds symbolic sizes.
        """
        if value is None:
            raise ModelError("an input that this op needs is missing")
        known = self.try_host(value)
        if known is None or known.is_symbolic:
            raise HostValueNeededError(value)
        return known.array

    def host_ints(self, value: ir.Value | None) -> list[int]:
        """Return a constant 0-D or 1-D integer tensor as a list."""
        return [int(n) for n in self.host(value).reshape(-1)]

    def host_dims(self, value: ir.Value | None) -> list[Any]:
        """Return a shape-like tensor as a list of ints and symbolic sizes (sympy expressions).

        Raises:
            HostValueNeededError: it is computed from the data of the inputs.
        """
        if value is None:
            raise ModelError("an input that this op needs is missing")
        known = self.try_host(value)
        if known is None:
            raise HostValueNeededError(value)
        return [self.floors.respelled(entry, self.symbols) for entry in known.array.reshape(-1).tolist()]

    def weight(self, value: ir.Value | None) -> np.ndarray | None:
        """Return an initializer's array to copy (`to_copy`), trainable or not; None for what is computed or left out.

        A native layer may take it over if this is its only use (`is_exclusive`).
        """
        return to_copy(value.const_value) if self.is_weight(value) else None  # type: ignore[union-attr, arg-type]

    def is_weight(self, value: ir.Value | None) -> bool:
        """Whether `weight` has an array for a value; none is read."""
        return value is not None and value.const_value is not None and value not in self.values

    @staticmethod
    def is_exclusive(value: ir.Value) -> bool:
        """Whether exactly one node input reads the value, and it is no graph output."""
        return len(list(value.uses())) == 1 and not value.is_graph_output()

    @staticmethod
    def static_shape(value: ir.Value) -> tuple[int | None, ...] | None:
        """Inferred shape with None for sizes that are not numbers, or None for an unknown rank."""
        if value.shape is None:
            return None
        return tuple(dim if isinstance(dim, int) else None for dim in value.shape)

    @staticmethod
    def unsupported(message: str) -> UnsupportedError:
        """Return the error to raise; the walk adds engine, op, opset and node."""
        return UnsupportedError(message)
