"""Capture of a living Keras network: its configuration and arrays, handed to the core's translator.

What the walk over layers does not know (a subclassed network, a custom layer, a Lambda that the caller wrote) is called
once on symbolic tensors, which shows the layers and operators that it is made of (`portnet_keras.opened`). What
those cannot follow is traced by TensorFlow and converted by tf2onnx where that is installed; `Captured.way` says which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from portnet.adapter import CaptureOptions, Source
from portnet.errors import InputError, UnsupportedError
from portnet.formats.captured import Captured
from portnet.formats.keras import ByLayer, Place, Translation, translate
from portnet_keras.collection import labels_of, notes_of, preprocessing_of
from portnet_keras.depth import deep
from portnet_keras.document import document
from portnet_keras.framework import keras
from portnet_keras.layout import identity
from portnet_keras.network import compiled, fed, read
from portnet_keras.opened import Opened, open_calls, weights_of
from portnet_keras.policies import in_single_precision, narrow_policies
from portnet_keras.tracing import SavedModel, TFLiteModel, called, input_specs, trace

__all__ = ["KerasSource", "capture", "layer_arrays"]

LABEL = "keras, as it came"
_WAY = "walked over Keras's layers"


def capture(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    """Return a Keras network as a `Model`, and what runs the original; see `Adapter.capture`."""
    if isinstance(native, (SavedModel, TFLiteModel)):
        return trace(native, options, "it is a graph of TensorFlow's")
    _build(native, options.examples)
    reason = "it is a subclass of keras.Model, whose layers do not say how they are joined"
    if isinstance(native, (keras.Sequential, keras.src.models.Functional)):
        try:
            return _told(native, *_walked(native, options))
        except UnsupportedError as error:
            reason = str(error)
    try:
        return _told(native, *_opened(native, options))
    except UnsupportedError as error:
        reason = f"{reason}; {error}"
    return _traced(native, options, reason)


def _told(native: Any, captured: Captured, source: Source) -> tuple[Captured, Source]:
    captured.model.preprocessing, captured.model.labels = preprocessing_of(native), labels_of(native)
    notes = [
        f"layers that Keras computes by the policy {policy} compute in float32, as they were compared."
        for policy in narrow_policies(native)
    ]
    return replace(captured, notes=(*notes_of(native), *captured.notes, *notes)), source


def _walked(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    translation = translation_of(native, options)
    return translation.captured, KerasSource(native, translation)


def _opened(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    """Follow a network's own code by Keras's symbolic tensors.

    Raises:
        UnsupportedError: it uses what these cannot follow, or layers without a translation.
    """
    opened = open_calls(native, input_specs(native, options))
    translation = translate(
        document(opened),
        make_supply=lambda network: ByLayer(opened.arrays()),
        way=f"{_WAY} and the calls of {', '.join(opened.kinds)}",
        source=native.name,
        keep_layout=options.keep_layout,
        dynamic_batch=options.dynamic_batch,
        trusted=True,
    )
    captured = translation.captured
    fixed = opened.computed()
    if fixed:
        shown = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(fixed.items())[:3])
        more = f" and {len(fixed) - 3} more" if len(fixed) > 3 else ""
        note = f"what its call computes from weights before it reads an input is constant and does not train: {shown}"
        captured = replace(captured, notes=(*captured.notes, f"{note}{more}."))
    return captured, OpenedSource(native, translation, opened)


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
        trusted=True,
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
            found[here] = [keras.ops.convert_to_numpy(weight) for weight in weights_of(layer)]
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
        with in_single_precision(self._native):
            if self._call is None:
                # what `compiled` takes are ONNX's arrays and, for each, the order of Keras's axes in them
                orders = [tuple(int(axis) for axis in np.argsort(order)) for order in self._translation.inputs]
                self._call = self._compiled(orders)
            results = self._call(*(fed(inputs, port) for port in ports))
        found = zip(self._outputs.items(), results, strict=True)
        return {name: _laid(read(result, identity(len(order))), order) for (name, order), result in found}

    def _compiled(self, orders: Sequence[tuple[int, ...]]) -> Callable[..., Sequence[Any]]:
        return compiled(self._native, orders, self._native.inputs)

    def at(self, tensor: str) -> KerasSource:
        """Return the network up to a layer; see `Source.at`."""
        place = self._translation.places.get(tensor)
        if place is None:
            raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}, which is inside a layer")
        found = _tensor(self._native, place.path, place.call, place.output)
        with deep():
            part = keras.Model(self._native.inputs, found)
        return KerasSource(part, self._translation, {tensor: place.order})


class OpenedSource(KerasSource):
    """A Keras network whose own code was followed: as a whole it is run by Keras itself, in part step by step.

    Args:
        native: the network.
        translation: as in `KerasSource`.
        opened: its steps.
        place: of the one tensor that comes out; None for the outputs.
    """

    def __init__(self, native: Any, translation: Translation, opened: Opened, place: tuple[str, Place] | None = None):
        tensors = None if place is None else {place[0]: place[1].order}
        super().__init__(native, translation, tensors)
        self._opened, self._place = opened, None if place is None else place[1]

    def _compiled(self, orders: Sequence[tuple[int, ...]]) -> Callable[..., Sequence[Any]]:
        place = self._place
        if place is None:
            return compiled(called(self._native), orders, list(self._opened.inputs.values()))
        return lambda *arrays: [self._opened.compute(_ordered(arrays, orders), *place.path, place.call, place.output)]

    def at(self, tensor: str) -> OpenedSource:
        """Return the network up to a step; see `Source.at`."""
        place = self._translation.places.get(tensor)
        if place is None:
            raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}, which is inside a layer")
        return OpenedSource(self._native, self._translation, self._opened, (tensor, place))


def _ordered(arrays: Sequence[Any], orders: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.asarray(array).transpose(order) for array, order in zip(arrays, orders, strict=True)]


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
    called(native)(arrays[0] if len(arrays) == 1 else arrays)


def _traced(native: Any, options: CaptureOptions, reason: str) -> tuple[Captured, Source]:
    captured, source = trace(native, options, reason)
    captured.model.preprocessing, captured.model.labels = preprocessing_of(native), labels_of(native)
    notes = (f"tf2onnx was used: {reason}", *notes_of(native), *captured.notes)
    return replace(captured, notes=notes), source
