"""`KerasLowered`: a functional ``keras.Model`` that is fed and read in ONNX's layout under ONNX's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.adapter import Lowered, Trainer, TrainPlan
from portnet.errors import InputError, UnsupportedError, WeightsError
from portnet.graph.lowering import NodeView
from portnet.graph.model import Model, Signature
from portnet_keras.depth import deep
from portnet_keras.framework import BACKEND, keras, ops, share_gpu_memory
from portnet_keras.functional import functional
from portnet_keras.layout import KValue, identity
from portnet_keras.lower import Binding, KerasLowering
from portnet_keras.naming import distinct_names
from portnet_keras.narrow import to_stored

__all__ = ["KerasLowered", "fed", "laid", "lower", "read", "unwrapped"]


def lower(model: Model, device: str) -> KerasLowered:
    """Lower a canonical model onto a device ("cpu", "cuda:0")."""
    share_gpu_memory()
    with keras.device(device.replace("cuda", "gpu")):
        return KerasLowered(model, device)


class KerasLowered(Lowered):
    """A functional ``keras.Model`` of native layers.

    Attributes:
        native: the ``keras.Model``; its inputs and outputs lie in the orders ``input_orders`` and ``output_orders``.
        bindings: variable and layout of every initializer that became a Keras weight.
    """

    engine = "keras"

    def __init__(self, model: Model, device: str) -> None:
        self.model, self.device = model, device
        walk = KerasLowering(model)
        made = zip(walk.walk(), walk.graph.outputs, strict=True)
        outputs = [_output(walk, value, port) for value, port in made]
        # a network that computes from nothing still needs an input to be a functional model
        assert walk.anchor is not None
        self.bindings: dict[str, Binding] = walk.bindings
        self.input_orders = [value.order for value in walk.inputs_made]
        self.output_orders = [value.order for value in outputs]
        distinct_names(walk, outputs)
        with deep():
            self.native = functional(
                unwrapped([value.data for value in walk.inputs_made]),
                [value.data for value in outputs],
                walk.name(model.name or "network"),
            )
        self._forward: Callable[..., Any] | None = None

    def _captured_names(self) -> Mapping[str, Sequence[str]]:
        return {name: (binding.variable.path,) for name, binding in self.bindings.items()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode; see `Lowered.run`. The first call compiles, for every batch size."""
        arrays = [fed(inputs, port) for port in self.model.inputs] or [np.zeros((), np.float32)]
        if self._forward is None:
            self._forward = compiled(self.native, self.input_orders, self.native.inputs)
        with keras.device(self.device.replace("cuda", "gpu")):
            results = self._forward(*arrays)
        return {
            port.name: read(result, order, port.dtype)
            for port, result, order in zip(self.model.outputs, results, self.output_orders, strict=True)
        }

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of parameters and statistics; see `Lowered.weights`."""
        return {name: b.layout.to_onnx(ops.convert_to_numpy(b.variable)) for name, b in self.bindings.items()}

    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into the network; see `Lowered.set_weights`."""
        for name, array in arrays.items():
            if name not in self.bindings:
                raise WeightsError(f"weights: the network {self.model.name!r} has no weight named {name!r}")
            binding = self.bindings[name]
            if tuple(np.shape(array)) != binding.layout.shape:
                raise WeightsError(
                    f"weights: {name!r} got shape {tuple(np.shape(array))}, expected {binding.layout.shape}"
                )
        for name, array in arrays.items():
            binding = self.bindings[name]
            binding.variable.assign(binding.layout.to_native(np.asarray(array)))

    def keep_frozen(self) -> None:
        """See `Lowered.keep_frozen`: whole layers by ``trainable``, which Keras's files keep, else their variables."""
        parameters, statistics = self._frozen()
        still = {id(self.bindings[name].variable) for name in (parameters | statistics) & set(self.bindings)}
        for layer in self.native._flatten_layers(include_self=False):
            own = [*layer._trainable_variables, *layer._non_trainable_variables]
            found = [variable for variable in own if id(variable) in still]
            if found and all(id(v) in still or not _moves(layer, v) for v in own):
                layer.trainable = False
            for variable in found:
                variable.trainable = False

    @property
    def trainable_count(self) -> int:
        """Count of scalars in ``native.trainable_variables``."""
        return sum(int(np.prod(variable.shape)) for variable in self.native.trainable_variables)

    def trainer(self, plan: TrainPlan) -> Trainer:
        """Return a trainer; training is compiled by TensorFlow.

        Raises:
            UnsupportedError: Keras runs on another backend than TensorFlow.
        """
        if BACKEND != "tensorflow":
            raise UnsupportedError(
                f"keras: training runs on the TensorFlow backend: got {BACKEND}. Set KERAS_BACKEND=tensorflow.",
                engine="keras",
            )
        from portnet_keras.train import KerasTrainer

        return KerasTrainer(self, plan)


def _output(walk: KerasLowering, value: KValue, port: ir.Value) -> KValue:
    """Return an output as a tensor of its own: not an input, not a number."""
    if isinstance(value.data, list):
        node = port.producer()
        maker = "" if node is None else f"{NodeView(node, walk.model.opset).describe()}: "
        told = f"keras: {maker}output {port.name!r} is a sequence, and a Keras network returns tensors"
        raise UnsupportedError(told, engine="keras")
    data = walk.ordered(value, value.order)
    if not isinstance(data, keras.KerasTensor):
        return KValue(walk.symbolic(data), value.order)
    if any(data is made.data for made in walk.inputs_made):
        data = ops.copy(data)
    return KValue(data, value.order)


def _moves(layer: Any, variable: Any) -> bool:
    """Whether training moves a variable: what trains, and running statistics."""
    return bool(variable.trainable) or variable is getattr(layer, "moving_mean", None)


def unwrapped(tensors: list[Any]) -> Any:
    """Return several tensors as the list that a Keras network takes, and one as itself."""
    return tensors[0] if len(tensors) == 1 else tensors


def fed(inputs: Mapping[str, Any], port: Signature) -> np.ndarray:
    """Return the array for one input, in ONNX's layout.

    Raises:
        InputError: it is missing, or has another shape.
    """
    if port.name not in inputs:
        raise InputError(f"run: got inputs {', '.join(inputs)}, expected {port.name!r} among them")
    array = np.asarray(inputs[port.name], np.dtype(port.dtype))
    shape = port.shape or ()
    if array.ndim != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise InputError(f"run: input {port.name!r} got shape {array.shape}, expected {port}")
    return to_stored(array)


def read(result: Any, order: tuple[int, ...], dtype: str = "unknown") -> np.ndarray:
    """Return a result whose axes lie in ``order`` as ONNX has it, in the type that the graph says."""
    array = ops.convert_to_numpy(result)
    if dtype != "unknown" and array.dtype != np.dtype(dtype):
        array = array.astype(np.dtype(dtype))
    return array.transpose(np.argsort(order)) if order != identity(len(order)) else array


def compiled(
    network: Callable[..., Any], orders: Sequence[tuple[int, ...]], inputs: Sequence[Any]
) -> Callable[..., list[Any]]:
    """Return ``network`` in inference mode as one compiled function of ONNX arrays that serves every batch size.

    Args:
        network: takes the native tensors, several as a list, and ``training``.
        orders: of each input's axes in the network.
        inputs: tell the native shapes and element types.
    """

    def infer(*tensors: Any) -> list[Any]:
        native = [laid(tensor, order) for tensor, order in zip(tensors, orders, strict=True)]
        return list(keras.tree.flatten(network(unwrapped(native), training=False)))

    if BACKEND != "tensorflow":
        return lambda *arrays: infer(*(ops.convert_to_tensor(array) for array in arrays))
    import tensorflow as tf

    shapes = zip(inputs, orders, strict=True)
    signature = [tf.TensorSpec(_onnx_shape(x.shape, o), x.dtype) for x, o in shapes]
    concrete = tf.function(infer, input_signature=signature, autograph=False).get_concrete_function()
    return lambda *arrays: concrete(*map(tf.convert_to_tensor, arrays))


def laid(tensor: Any, order: tuple[int, ...]) -> Any:
    """Return a tensor in ONNX's layout with its axes in ``order``."""
    return ops.transpose(tensor, order) if order != identity(len(order)) else tensor


def _onnx_shape(shape: Sequence[int | None], order: tuple[int, ...]) -> list[int | None]:
    return [shape[order.index(axis)] for axis in range(len(order))]
