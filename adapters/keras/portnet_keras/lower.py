"""The walk from a canonical ONNX graph to Keras tensors.

Every value carries the order its axes lie in (`KValue.order`). Builders remap axes and pass the order on; data are
moved only where an op needs them otherwise, so that an image network ends channels last with no transpose.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.host import HostValue
from portnet.graph.lowering import Lowering, NodeView, op_name
from portnet.graph.model import Model
from portnet.graph.names import layer_name, node_path, weight_owner
from portnet.graph.parameters import Role
from portnet.graph.sizes import evaluate_size
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Layout, channels_last, identity
from portnet_keras.narrow import stored_as, to_stored
from portnet_keras.operation import KerasFunction, Weight, operation, scalar_types
from portnet_keras.ops import SPATIAL, TABLE, TRANSPARENT

__all__ = ["Binding", "KerasLowering", "dtype_name", "policy"]


@dataclass(frozen=True)
class Binding:
    """A Keras variable that holds an ONNX initializer, and how."""

    variable: Any
    layout: Layout


def dtype_name(dtype: ir.DataType | None) -> str | None:
    """Return what Keras calls an ONNX element type, or None when it is unknown.

    Raises:
        UnsupportedError: Keras has no such type.
    """
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return None
    if dtype == ir.DataType.STRING:
        raise UnsupportedError(
            "keras: strings are not numbers, and the engine has no lowering for them", engine="keras"
        )
    stored = stored_as(dtype)
    if stored is not None:
        return stored
    name = str(dtype.numpy())
    try:
        return keras.backend.standardize_dtype(name)
    except ValueError as error:
        raise UnsupportedError(f"Keras has no element type {dtype.name.lower()}", engine="keras") from error


def policy(dtype: str) -> str:
    """Return the dtype to give to a layer; a layer that only moves integers has no use for theirs."""
    return dtype if "float" in dtype else "float32"


@operation
def size(x: Any, *, axis: int) -> Any:
    """Return the size of one axis as an int64 scalar."""
    return ops.convert_to_tensor(ops.shape(x)[axis], dtype="int64")


class KerasLowering(Lowering[KValue]):
    """Lowers one graph; after `walk`, ``inputs_made`` and ``bindings`` say what became of inputs and weights."""

    engine = "keras"
    table = TABLE
    takes_turned = True

    def __init__(self, model: Model, graph: ir.Graph | None = None, parent: KerasLowering | None = None) -> None:
        super().__init__(model, graph)
        self.inputs_made: list[KValue] = []
        self.bindings: dict[str, Binding] = {}
        self.names: set[str] = set()
        self.moved: dict[tuple[int, tuple[int, ...]], tuple[Any, Any]] = {}
        self._anchor: Any = None
        # Add nodes whose bias the Dense layer before them has taken over
        self.absorbed: set[ir.Node] = set()
        self.parent, self.repeated = parent, False
        if parent is not None:
            # values of a branch are its own: a loop walks it again with others
            self.values, self.host_values = dict(parent.values), dict(parent.host_values)
            self.symbols = ChainMap({}, parent.symbols)  # type: ignore[arg-type]
            for attribute in ("inputs_made", "bindings", "names", "moved", "_anchor"):
                setattr(self, attribute, getattr(parent, attribute))

    # ---- hooks of the walk

    def make_input(self, value: ir.Value) -> KValue:
        """Return a `keras.Input`; channels last where the network goes on to treat it as an image."""
        shape = self.static_shape(value)
        if not isinstance(value.type, ir.TensorType):
            raise UnsupportedError(
                f"keras: input {value.name!r} is a sequence or optional, not a tensor", engine="keras"
            )
        if shape is None:
            raise UnsupportedError(f"keras: input {value.name!r} has no rank", engine="keras")
        order = channels_last(len(shape)) if wants_channels_last(value) else identity(len(shape))
        data = keras.Input(
            batch_shape=[shape[axis] for axis in order], dtype=dtype_name(value.dtype), name=self.name(value.name or "")
        )
        made = KValue(data, order)
        self.inputs_made.append(made)
        return made

    def make_parameter(self, value: ir.Value, array: np.ndarray) -> KValue:
        """Return a trainable array that stands on its own."""
        return self.loose(value, Layout.of(array.shape))

    def make_constant(self, value: ir.Value, array: np.ndarray) -> KValue:
        """Return numbers that the builders may still fold or lay out otherwise."""
        dtype_name(value.dtype)
        return KValue(to_stored(array), identity(array.ndim))

    def make_symbolic(self, value: ir.Value, host: HostValue) -> KValue:
        """Return a tensor that reads free sizes when it runs."""
        entries = [ops.cast(self.size(entry), "int64") for entry in host.array.reshape(-1)]
        stacked = ops.reshape(ops.stack(entries), host.array.shape)
        return KValue(ops.cast(stacked, str(host.dtype or "int64")), identity(host.array.ndim))

    def size(self, entry: Any) -> Any:
        """Return a size as an int, or as a scalar tensor where it is free."""
        return evaluate_size(entry, self._free_size, ops.maximum)

    def _free_size(self, symbol: Any) -> Any:
        source, axis = self.symbols[symbol]
        value = self.value(source)
        found = value.shape[axis]
        return found if found is not None else size(axis=value.axis(axis))(value.data)

    def _lower_node(self, node: ir.Node, index: int) -> None:
        if node not in self.absorbed:
            super()._lower_node(node, index)
            return
        product = next(value for value in node.inputs if value in self.values)
        self._remember(node.outputs[0], self.values[product])  # type: ignore[index]

    def _bind(self, node: NodeView, produced: Any) -> None:
        results = list(produced) if isinstance(produced, (list, tuple)) else [produced]
        finished = [self._finish(node, i, result) for i, result in enumerate(results)]
        super()._bind(node, finished)
        for value, known in zip(node.outputs, finished, strict=False):
            self._remember(value, known)

    def branch(self, graph: ir.Graph, inputs: Sequence[KValue], *, repeated: bool = False) -> list[KValue]:
        """Walk a subgraph with values for its inputs; return those of its outputs.

        One that is walked several times shares the weights of all its walks.
        """
        child = KerasLowering(self.model, graph, self)
        child.repeated = repeated or self.repeated
        for value, given in zip(graph.inputs, inputs, strict=True):
            child._remember(value, given)
        return child.walk()

    def _materialise(self, value: ir.Value) -> KValue:
        is_outer = value.const_value is None or self.repeated
        if self.parent is not None and is_outer and value not in self.host_values:
            return self.parent.value(value)
        return super()._materialise(value)

    def _remember(self, value: ir.Value, known: KValue) -> None:
        self.values[value] = known
        if known.is_constant:
            self.host_values[value] = HostValue(known.data)

    dtype_name = staticmethod(dtype_name)

    @staticmethod
    def known(data: Any) -> Any:
        """Return a KerasTensor as it is, and what the backend computed at once as a numpy array."""
        return data if isinstance(data, (keras.KerasTensor, np.ndarray)) else ops.convert_to_numpy(data)

    def _finish(self, node: NodeView, index: int, result: Any) -> Any:
        value = result if isinstance(result, KValue) else KValue(result, identity(len(np.shape(result))))
        if isinstance(value.data, list):
            return value
        data = self.known(value.data)
        expected = dtype_name(node.outputs[index].dtype) if index < len(node.outputs) else None
        if expected is not None and keras.backend.standardize_dtype(data.dtype) != expected:
            data = self.known(ops.cast(data, expected))
        if len(data.shape) < value.rank:  # of weights alone, which stand without their leading axes of size 1
            data = self.known(ops.reshape(data, (1,) * (value.rank - len(data.shape)) + tuple(data.shape)))
        if isinstance(data, keras.KerasTensor):
            data._sparse = False  # Keras takes products with numpy arrays for sparse ones
            self._christen(data, node)
        return KValue(data, value.order, value.packing)

    def _christen(self, data: Any, node: NodeView) -> None:
        made_by = data._keras_history.operation
        if not isinstance(made_by, keras.layers.Layer) and made_by.name not in self.names:
            made_by.name = self.name(node_path(node.name))

    # ---- names, layers, weights

    def name(self, text: str) -> str:
        """Return a name that Keras accepts and that is not taken, made from an ONNX name."""
        clean = re.sub(r"[^A-Za-z0-9_\-]+", "_", text).strip("_-") or "tensor"
        name, count = clean, 1
        while name in self.names:
            count += 1
            name = f"{clean}_{count}"
        self.names.add(name)
        return name

    def layer(
        self,
        node: NodeView,
        cls: type,
        *arguments: Any,
        reads: Sequence[ir.Value | None] | None = None,
        **keywords: Any,
    ) -> Any:
        """Return a new Keras layer that computes in the node's element type.

        Args:
            node: what it stands for. It bears the name that its weights tell, or else the node's.
            cls: kind of layer.
            arguments: of its constructor.
            reads: its inputs and weights; None for those of the node.
            keywords: of its constructor.
        """
        dtype = policy(dtype_name(node.outputs[0].dtype) or "float32")
        name = self._layer_name(node, node.inputs if reads is None else reads)
        return cls(*arguments, name=self.name(name), dtype=dtype, **keywords)

    def _layer_name(self, node: NodeView, reads: Sequence[ir.Value | None]) -> str:
        names = [value.name or "" for value in reads if value is not None]
        weights = [name for name in names if self.roles.get(name, Role.CONSTANT).trainable]
        if not weights:
            return node_path(node.name)
        return next(filter(None, map(weight_owner, weights)), layer_name(node.name, node.ir.op_type))

    def apply(self, cls: type[KerasFunction], node: NodeView, *tensors: Any, **attributes: Any) -> Any:
        """Call an operation; tensors that are all known give known results."""
        if any(isinstance(tensor, keras.KerasTensor) for tensor in tensors):
            if types := scalar_types(tensors):
                attributes["scalar_types"] = types
            return cls(name=self.name(node.name), **attributes)(*tensors)
        ready = [None if tensor is None else ops.convert_to_tensor(tensor) for tensor in tensors]
        return cls.function(*ready, **attributes)

    @property
    def anchor(self) -> Any:
        """Any tensor of the network, to hang loose weights on."""
        if self._anchor is None:
            if not self.inputs_made:
                self.inputs_made.append(KValue(keras.Input(batch_shape=(), name=self.name("unused")), ()))
            self._anchor = self.inputs_made[0].data
        return self._anchor

    def claimable(self, value: ir.Value | None) -> bool:
        """Whether a layer may take an initializer over as its own weight."""
        return value is not None and not self.repeated and self.is_weight(value) and self.is_exclusive(value)

    def filled(self, layer: Any, x: Any, weights: Mapping[str, tuple[ir.Value | None, Layout]]) -> Any:
        """Call a new layer whose variables begin as initializers; remember where these are.

        Numbers that are drawn or written first, to be replaced, take as long as to make the variable.

        Args:
            layer: it was not called before.
            x: what it is called on.
            weights: name of a variable → the initializer, None for a variable that the layer does without, and layout.
        """
        given = {name: (value, layout) for name, (value, layout) in weights.items() if value is not None}
        attributes, before = vars(layer), dict(vars(layer))
        for name, (value, layout) in given.items():
            key = f"{name}_initializer"
            attributes[key if key in attributes else "depthwise_initializer"] = self._beginning(value, layout)
        result = layer(x)
        attributes.update((key, before[key]) for key in attributes if key.endswith("_initializer"))
        for name, (value, layout) in given.items():
            variable = getattr(layer, name)
            variable.trainable = self.roles.get(value.name or "", Role.CONSTANT).trainable
            self.bindings[value.name or ""] = Binding(variable, layout)
        return result

    def _beginning(self, value: ir.Value, layout: Layout) -> Callable[..., Any]:
        def initializer(shape: Sequence[int], dtype: Any = None) -> Any:
            if tuple(shape) != layout.native:
                raise ValueError(f"{value.name!r} got a variable of shape {tuple(shape)}, expected {layout.native}")
            array = np.array(layout.to_native(self.weight(value)))  # type: ignore[arg-type]
            return array if str(array.dtype) == dtype else ops.convert_to_tensor(array, dtype=dtype)

        return initializer

    def loose(self, value: ir.Value, layout: Layout) -> KValue:
        """Return an initializer as a tensor of its own in a given layout."""
        weight = Weight(layout.native, dtype_name(value.dtype) or "float32", name=self.name(value.name or "weight"))
        return KValue(self.filled(weight, self.anchor, {"value": (value, layout)}), identity(len(layout.native)))

    def symbolic(self, data: Any) -> Any:
        """Return a KerasTensor; numbers that are known become a constant of the network."""
        if isinstance(data, keras.KerasTensor):
            return data
        weight = Weight(data.shape, str(data.dtype), name=self.name("constant"), trainable=False)
        tensor = weight(self.anchor)
        weight.value.assign(data)
        return tensor

    # ---- order of axes

    def plain(self, value: ir.Value | None) -> Any:
        """Return the data of a value in ONNX's order."""
        found = self.value(value)
        return self.ordered(found, identity(found.rank))

    def optional_plain(self, value: ir.Value | None) -> Any:
        """Return `plain`, or None where the input is left out."""
        return None if value is None else self.plain(value)

    def last(self, value: ir.Value | None) -> Any:
        """Return the data of a value channels last."""
        found = self.value(value)
        return self.ordered(found, channels_last(found.rank))

    def ordered(self, value: KValue, order: Sequence[int]) -> Any:
        """Return the data of a value in a given order, moved if need be; each move is made once."""
        perm = tuple(value.order.index(axis) for axis in order)
        if value.packing is not None:
            raise self.unsupported("a flattened map is read by something that is no dense layer")
        if perm == identity(value.rank):
            return value.data
        if value.is_constant:
            return np.ascontiguousarray(value.data.transpose(perm))
        key = (id(value.data), perm)
        if key not in self.moved:
            # the source is kept so that its id stays its own
            self.moved[key] = (value.data, self._move(value.data, perm))
        return self.moved[key][1]

    def _move(self, data: Any, perm: tuple[int, ...]) -> Any:
        shape = [data.shape[axis] for axis in perm]
        real = [axis for axis in perm if data.shape[axis] != 1]
        if real == sorted(real) and shape.count(None) <= 1:
            return ops.reshape(data, [-1 if n is None else n for n in shape])
        if perm[0] == 0:
            name = self.name(f"{data._keras_history.operation.name}_permute")
            return keras.layers.Permute(perm[1:], dtype=policy(data.dtype), name=name)(data)
        return ops.transpose(data, perm)


def wants_channels_last(value: ir.Value) -> bool:
    """Whether a value goes, through ops that do not care for order, into one that works channels last."""
    if value.shape is None or len(value.shape) < 3:
        return False
    pending, seen = [value], {value}
    while pending:
        for use in pending.pop().uses():
            name = op_name(use.node)
            if name in SPATIAL and use.idx == 0:
                return True
            if name in TRANSPARENT:
                new = [output for output in use.node.outputs if output not in seen]
                seen.update(new)
                pending += new
    return False
