"""Networks whose layers do not say how they are joined, seen by calling them once on Keras's symbolic tensors.

A layer that the core's translator knows stays a layer. Every other one, a subclass of ``keras.Model`` or ``Layer``, a
Lambda, a network within, is opened: its ``call`` runs in inference mode on symbolic tensors, and so do the variables
that it owns. What its operators and layers leave is a graph of steps, which is told to the translator as Keras's own
configuration of a functional network would be; BatchNormalization stays what it is and every variable keeps its name.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnet.errors import UnsupportedError
from portnet.formats.keras import is_translated
from portnet.graph.names import take_name
from portnet_keras.framework import keras

__all__ = ["Opened", "Step", "is_array", "numpy_of", "open_calls", "weights_of"]

_patching = threading.RLock()
_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)


@dataclass(frozen=True)
class Step:
    """One call of a layer or an operator.

    Attributes:
        name: of the layer, after the attributes' layers around it; of an operator, its kind and a number.
        operation: Keras's.
        args: arguments, in which tensors are symbolic.
        kwargs: those given by name.
        outputs: symbolic tensors.
    """

    name: str
    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]


@dataclass(frozen=True)
class Opened:
    """What a network does in inference, step by step.

    Attributes:
        name: the network's.
        inputs: symbolic tensors, by name.
        outputs: symbolic tensors.
        steps: each after those that it reads.
        held: variables and constant arrays by name, with the symbolic tensor that stands for each.
        kinds: classes that were opened.
    """

    name: str
    inputs: dict[str, Any]
    outputs: list[Any]
    steps: list[Step]
    held: dict[str, tuple[Any, Any]]
    kinds: tuple[str, ...]

    def arrays(self) -> dict[tuple[str, ...], Sequence[np.ndarray]]:
        """Return copies of the arrays of every layer, and every variable, by name."""
        found: dict[tuple[str, ...], Sequence[np.ndarray]] = {}
        for name, (_, value) in self.held.items():
            found[(name,)] = [numpy_of(value)]
        for step in self.steps:
            found[(step.name,)] = [numpy_of(weight) for weight in weights_of(step.operation)]
        return found

    def computed(self) -> dict[str, Any]:
        """Return the tensors of several numbers that are neither variables nor the user's own arrays, by name."""
        tensors = {name: value for name, (_, value) in self.held.items() if not isinstance(value, np.ndarray)}
        return {name: x for name, x in tensors.items() if not isinstance(x, keras.Variable) and numpy_of(x).size > 1}

    def compute(self, arrays: Sequence[Any], name: str, call: int, output: int) -> Any:
        """Take the steps on arrays, in the order of the inputs, up to an output of a step.

        Raises:
            UnsupportedError: there is no such step.
        """
        given = zip(self.inputs.values(), arrays, strict=True)
        known = {id(tensor): keras.ops.convert_to_tensor(array) for tensor, array in given}
        known |= {id(tensor): keras.ops.convert_to_tensor(value) for tensor, value in self.held.values()}
        seen = 0
        for step in self.steps:
            args, kwargs = keras.tree.map_structure(lambda x: known.get(id(x), x), (step.args, step.kwargs))
            results = keras.tree.flatten(step.operation(*args, **kwargs))
            known.update({id(tensor): result for tensor, result in zip(step.outputs, results, strict=True)})
            if step.name == name:
                if seen == call:
                    return results[output]
                seen += 1
        raise UnsupportedError(f"{self.name} has no step {name!r}")


def open_calls(native: Any, specs: Sequence[tuple[Sequence[int | None], str]]) -> Opened:
    """Call a network once on symbolic tensors, and return what it does.

    The network is not changed: neither weights nor the calls that its layers remember.

    Args:
        native: a network that has been built.
        specs: shape, whose axis 0 is the batch, and element type of each input.

    Raises:
        UnsupportedError: it does what symbolic tensors cannot, such as a function of TensorFlow's own.
    """
    names = [getattr(x, "name", None) for x in getattr(native, "inputs", None) or []]
    if len(names) != len(specs) or not all(names):
        names = [f"input_{i + 1}" for i in range(len(specs))]
    inputs = {
        name: keras.KerasTensor((None, *shape[1:]), dtype=dtype, name=name)
        for name, (shape, dtype) in zip(names, specs, strict=True)
    }
    recording = _Recording(native)
    with recording.on():
        outputs = _called(native, recording, list(inputs.values()))
        return recording.opened(inputs, outputs)


def _called(native: Any, recording: _Recording, tensors: list[Any]) -> list[Any]:
    given = tensors[0] if len(tensors) == 1 else tensors
    try:
        try:
            result = recording.open(native, (given,), {})
        except TypeError:
            if len(tensors) == 1:
                raise
            result = recording.open(native, tuple(tensors), {})
    except Exception as error:  # the network's own code may raise anything
        text = " ".join(str(error).split())[:200]
        raise UnsupportedError(f"its call cannot be followed: {type(error).__name__}: {text}") from error
    flat = keras.tree.flatten(result)
    if not flat or not all(isinstance(x, keras.KerasTensor) for x in flat):
        raise UnsupportedError("its call returns what is no tensor")
    return flat


class _Recording:
    """Stands between layers and their calls for as long as it is on, in this thread alone."""

    def __init__(self, native: Any) -> None:
        self.native = native
        self.kinds: list[str] = []
        self._names = dict(_layer_names(native))
        self._held: dict[int, tuple[Any, Any]] = {}

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Record calls; afterwards every layer remembers the calls that it did before."""
        operations = _every_operation(self.native)
        remembered = [nodes for each in operations for nodes in (each._inbound_nodes, each._outbound_nodes)]
        counts = [len(nodes) for nodes in remembered]
        token = _recording.set(self)
        try:
            with _patched():
                yield
        finally:
            _recording.reset(token)
            for nodes, count in zip(remembered, counts, strict=True):
                del nodes[count:]

    def call(self, original: Any, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a layer that is known as Keras does, and open another."""
        if not _is_known(layer):
            return self.open(layer, args, kwargs)
        if layer.weights and not _has_symbols((args, kwargs)):
            args = keras.tree.map_structure(self._given, args)
        token = _recording.set(None)  # what the layer is made of is its own affair
        try:
            result = original(layer, *args, **kwargs)
        finally:
            _recording.reset(token)
        if isinstance(layer, keras.layers.MultiHeadAttention):
            # on arrays, it takes the masks of what it reads away from others that read it
            for x in (*args[:3], *(kwargs.get(name) for name in ("query", "value", "key"))):
                if getattr(x, "_keras_mask", None) is not None:
                    x._keras_mask = None
        return result

    def open(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a layer's own code, with symbols for the variables that it owns."""
        if not layer.built:
            raise ValueError(f"the layer {layer.name!r} has not been built")
        if type(layer).__name__ not in self.kinds:
            self.kinds.append(type(layer).__name__)
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        if layer._call_has_training_arg:
            kwargs["training"] = False
        with self._symbols(layer):
            return layer.call(*args, **kwargs)

    @contextlib.contextmanager
    def _symbols(self, layer: Any) -> Iterator[None]:
        own = vars(layer)
        before = {key: value for key, value in own.items() if isinstance(value, keras.Variable)}
        own.update({key: self._symbol(value) for key, value in before.items()})
        try:
            yield
        finally:
            own.update(before)

    def _symbol(self, value: Any) -> Any:
        """Return the symbolic tensor that stands for a variable or an array."""
        if id(value) not in self._held:
            symbol = keras.KerasTensor(tuple(value.shape), dtype=keras.backend.standardize_dtype(value.dtype))
            self._held[id(value)] = (symbol, value)
        return self._held[id(value)][0]

    def _given(self, value: Any) -> Any:
        return self._symbol(value) if is_array(value) else value

    def opened(self, inputs: dict[str, Any], outputs: list[Any]) -> Opened:
        """Return the steps that the outputs depend on, in the order in which they read each other."""
        nodes = list(_steps_before(outputs))
        names = _Names(self._names, [node.operation for node in nodes], inputs)
        paths = {id(weight): path for path, weight in _weight_names(self.native, self._names)}
        steps = [
            Step(names.of(n.operation), n.operation, n.arguments.args, n.arguments.kwargs, n.outputs) for n in nodes
        ]
        for value in (x for n in nodes for x in keras.tree.flatten((n.arguments.args, n.arguments.kwargs))):
            if is_array(value):
                self._symbol(value)
        read = {id(x) for n in nodes for x in keras.tree.flatten((n.arguments.args, n.arguments.kwargs))}
        read |= {id(x) for x in outputs}
        held = {}
        for key, (symbol, value) in self._held.items():
            if id(symbol) in read or key in read:
                held[names.free(paths.get(key, "constant"))] = (symbol, value)
        symbols = {id(x) for n in nodes for x in n.arguments.keras_tensors} | {id(x) for x in outputs}
        known = {id(x) for x in inputs.values()} | {id(x) for n in nodes for x in n.outputs}
        if symbols - known - {id(symbol) for symbol, _ in held.values()}:
            raise UnsupportedError("it reads a tensor of another network")
        return Opened(self.native.name, inputs, outputs, steps, held, tuple(self.kinds))


class _Names:
    """Names of layers as they are nested, and of operators by kind and number."""

    def __init__(self, layers: Mapping[int, str], operations: Sequence[Any], taken: Mapping[str, Any]) -> None:
        self._known: dict[int, str] = {}
        self._taken = set(taken) | {layers[id(each)] for each in operations if id(each) in layers}
        for each in operations:
            if id(each) not in self._known:
                name = layers.get(id(each)) or self.free(_plain_name(each))
                self._known[id(each)] = name

    def of(self, operation: Any) -> str:
        """Return an operation's name."""
        return self._known[id(operation)]

    def free(self, name: str) -> str:
        """Return a name that nothing has yet."""
        return take_name(name, self._taken, first=1)


def _plain_name(operation: Any) -> str:
    if isinstance(operation, keras.Layer):
        return operation.name
    return re.sub(r"_\d+$", "", operation.name)


# ---- what Keras remembers


@contextlib.contextmanager
def _patched() -> Iterator[None]:
    """Have every call of a layer asked about; other threads' calls go through."""
    with _patching:
        original = keras.Layer.__call__

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            recording = _recording.get()
            if recording is None:
                return original(layer, *args, **kwargs)
            return recording.call(original, layer, args, kwargs)

        keras.Layer.__call__ = call
        try:
            yield
        finally:
            keras.Layer.__call__ = original


def _is_known(layer: Any) -> bool:
    """Whether a layer is Keras's own, and the translator knows it."""
    kind = type(layer)
    return kind.__module__.startswith("keras.") and is_translated(kind.__name__) and not isinstance(layer, keras.Model)


def _has_symbols(arguments: Any) -> bool:
    return any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(arguments))


def is_array(value: Any) -> bool:
    """Whether a value is a variable, or an array of one axis or more."""
    if isinstance(value, keras.Variable):
        return True
    return (isinstance(value, np.ndarray) or keras.ops.is_tensor(value)) and len(value.shape) > 0


def _steps_before(outputs: Sequence[Any]) -> Iterator[Any]:
    """Yield Keras's nodes that outputs depend on, each after those that it reads."""
    pending = [(_node(x), False) for x in reversed(outputs)]
    seen: set[int] = set()
    while pending:
        node, is_ready = pending.pop()
        if node is None or (id(node) in seen and not is_ready):
            continue
        if is_ready:
            yield node
            continue
        seen.add(id(node))
        pending.append((node, True))
        pending += [(_node(x), False) for x in reversed(node.arguments.keras_tensors)]


def _node(tensor: Any) -> Any:
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def _every_operation(native: Any) -> list[Any]:
    found = {id(native): native}
    for layer in native._flatten_layers():
        found[id(layer)] = layer
        for operation in getattr(layer, "operations", ()):
            found[id(operation)] = operation
    return list(found.values())


def _layer_names(layer: Any, above: str = "") -> Iterator[tuple[int, str]]:
    """Yield every layer within, by identity, with its name after those of the layers around it; the first counts."""
    taken: dict[str, int] = {}
    found: dict[int, str] = {}
    pending = [(layer, above)]
    while pending:
        outer, prefix = pending.pop(0)
        for inner in outer._layers:
            if id(inner) in found:
                continue
            name = prefix + inner.name
            count = taken.get(name, 0)
            taken[name] = count + 1
            found[id(inner)] = f"{name}_{count}" if count else name
            pending.append((inner, found[id(inner)] + "/"))
    yield from found.items()


def _weight_names(native: Any, layers: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    for layer in native._flatten_layers():
        prefix = f"{layers[id(layer)]}/" if id(layer) in layers else ""
        for weight in [*layer._trainable_variables, *layer._non_trainable_variables]:
            yield prefix + weight.name, weight


def weights_of(operation: Any) -> Sequence[Any]:
    """Return a layer's variables; of SpectralNormalization those of the layer inside, which compute in inference."""
    if isinstance(operation, keras.layers.SpectralNormalization):
        operation = operation.layer
    return getattr(operation, "weights", ())


def numpy_of(value: Any) -> np.ndarray:
    """Return a variable or tensor as an array."""
    return np.asarray(keras.ops.convert_to_numpy(value))
