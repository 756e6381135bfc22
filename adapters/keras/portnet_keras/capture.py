"""Capture of a living Keras network: its configuration and arrays, handed to the core's translator.

What the walk over layers does not know (a subclassed network, a custom layer, a Lambda that the caller wrote) is traced
by TensorFlow and converted by tf2onnx where that is installed; `Captured.way` says which it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from portnet.adapter import CaptureOptions, Source
from portnet.errors import InputError, UnsupportedError
from portnet.formats.captured import Captured
from portnet.formats.keras import ByLayer, Translation, translate
from portnet_keras.collection import preprocessing_of
from portnet_keras.framework import keras
from portnet_keras.layout import identity
from portnet_keras.network import compiled, fed, read
from portnet_keras.tracing import SavedModel, TFLiteModel, trace

__all__ = ["KerasSource", "capture", "layer_arrays"]

LABEL = "keras, as it came"
_WAY = "walked over Keras's layers"


def capture(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    """Return a Keras network as a `Model`, and what runs the original; see `Adapter.capture`."""
    if isinstance(native, (SavedModel, TFLiteModel)):
        return trace(native, options, "it is a graph of TensorFlow's")
    _build(native, options.examples)
    if not isinstance(native, (keras.Sequential, keras.src.models.Functional)):
        return _traced(native, options, "it is a subclass of keras.Model, whose layers do not say how they are joined")
    try:
        translation = translation_of(native, options)
    except UnsupportedError as error:
        return _traced(native, options, str(error))
    captured = translation.captured
    captured.model.preprocessing = preprocessing_of(native)
    return captured, KerasSource(native, translation)


def translation_of(native: Any, options: CaptureOptions) -> Translation:
    """Walk over the layers of a Sequential or functional network.

    Raises:
        UnsupportedError: names every layer that has no translation.
    """
    try:
        document = json.loads(native.to_json())
    except (NotImplementedError, TypeError, ValueError) as error:
        # a custom layer that does not say its configuration
        raise UnsupportedError(f"{native.name}: {' '.join(str(error).split())[:300]}") from error
    return translate(
        document,
        make_supply=lambda network: ByLayer(layer_arrays(native)),
        way=_WAY,
        source=native.name,
        keep_layout=options.keep_layout,
        dynamic_batch=options.dynamic_batch,
    )


def layer_arrays(network: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Sequence[np.ndarray]]:
    """Return copies of the arrays of every layer, by the names of the networks around it and its own."""
    found: dict[tuple[str, ...], Sequence[np.ndarray]] = {}
    for layer in network.layers:
        here = (*path, layer.name)
        inner = getattr(layer, "layer", None)
        if isinstance(layer, keras.Model):
            found |= layer_arrays(layer, here)
        elif isinstance(inner, keras.Model):
            found |= layer_arrays(inner, here)
        else:
            found[here] = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    return found


class KerasSource(Source):
    """A Keras network that was walked over, run by Keras itself.

    Args:
        native: the network.
        translation: tells names and orders of axes.
        tensors: what comes out, and the order that its axes have in the captured model; None for the outputs.
    """

    label = LABEL

    def __init__(self, native: Any, translation: Translation, tensors: Mapping[str, tuple[int, ...]] | None = None):
        self._native, self._translation = native, translation
        ports = translation.captured.model.outputs
        self._outputs = tensors or dict(zip([port.name for port in ports], translation.outputs, strict=True))
        self._call: Any = None

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode; see `Source.run`."""
        ports = self._translation.captured.model.inputs
        if self._call is None:
            # what `compiled` takes are ONNX's arrays and, for each, the order of Keras's axes in them
            orders = [tuple(int(axis) for axis in np.argsort(order)) for order in self._translation.inputs]
            self._call = compiled(self._native, orders)
        results = self._call(*(fed(inputs, port) for port in ports))
        found = zip(self._outputs.items(), results, strict=True)
        return {name: _laid(read(result, identity(len(order))), order) for (name, order), result in found}

    def at(self, tensor: str) -> KerasSource:
        """Return the network up to a layer; see `Source.at`."""
        place = self._translation.places.get(tensor)
        if place is None:
            raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}, which is inside a layer")
        found = _tensor(self._native, place.path, place.call, place.output)
        part = keras.Model(self._native.inputs, found)
        return KerasSource(part, self._translation, {tensor: place.order})


def _laid(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(order))


def _tensor(network: Any, path: tuple[str, ...], call: int, output: int) -> Any:
    """Return the symbolic tensor that a call of a layer gives in a network or in one within it."""
    nodes = _nodes(network, path[0])
    if len(path) == 1:
        return nodes[call].output_tensors[output]
    nested = network.get_layer(path[0])
    if not isinstance(nested, keras.Model) or not nodes:
        raise UnsupportedError(f"{LABEL} cannot be cut inside {'/'.join(path)!r}")
    inside = keras.Model(nested.inputs, _tensor(nested, path[1:], call, output))
    return inside(list(nodes[0].input_tensors) if len(nodes[0].input_tensors) > 1 else nodes[0].input_tensors[0])


def _nodes(network: Any, name: str) -> list[Any]:
    """Return the calls of a layer that belong to a network, in order."""
    functional = getattr(network, "_functional", None) or network
    own = {id(node) for nodes in functional._nodes_by_depth.values() for node in nodes}
    for operation in functional.operations:
        if operation.name == name:
            return [node for node in operation._inbound_nodes if id(node) in own]
    raise UnsupportedError(f"{LABEL} has no layer {name!r}")


def _build(native: Any, examples: tuple[Any, ...] | None) -> None:
    """Run a network once that does not know yet what it takes."""
    if getattr(native, "inputs", None):
        return
    if examples is None:
        raise InputError(
            f"capture: the network {native.name!r} has not been built: got no example inputs, expected some. "
            "Give them, or call the network once."
        )
    arrays = [np.asarray(example) for example in examples]
    if isinstance(native, keras.Sequential) and len(arrays) == 1:
        native.build((None, *arrays[0].shape[1:]))  # a call would fix the batch at that of the example
        return
    native(arrays[0] if len(arrays) == 1 else arrays, training=False)


def _traced(native: Any, options: CaptureOptions, reason: str) -> tuple[Captured, Source]:
    captured, source = trace(native, options, reason)
    captured.model.preprocessing = preprocessing_of(native)
    return replace(captured, notes=(f"tf2onnx was used: {reason}", *captured.notes)), source
