"""Steps of a network, told as Keras 3's configuration tells a functional one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from portnet.errors import UnsupportedError
from portnet_keras.framework import keras
from portnet_keras.opened import Opened, Step, is_array, numpy_of

__all__ = ["document"]


def document(opened: Opened) -> dict[str, Any]:
    """Return the configuration of a functional network that takes the same steps.

    Raises:
        UnsupportedError: a layer that does not say its own configuration.
    """
    return _Document(opened).network()


class _Document:
    """Tells steps as Keras 3 tells a functional network."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._refs: dict[int, tuple[str, int, int]] = {}
        self._layers: dict[str, dict[str, Any]] = {}
        self._symbols = {id(value): symbol for symbol, value in opened.held.values()}

    def network(self) -> dict[str, Any]:
        opened = self._opened
        for name, tensor in opened.inputs.items():
            shape, dtype = list(tensor.shape), str(tensor.dtype)
            self._add(name, "InputLayer", {"batch_shape": shape, "dtype": dtype}, {"args": [], "kwargs": {}}, [tensor])
            self._layers[name]["inbound_nodes"] = []
        for name, (tensor, value) in opened.held.items():
            is_learned = isinstance(value, keras.Variable)
            options = {"shape": list(tensor.shape), "dtype": str(tensor.dtype)}
            options |= {"trainable": is_learned and bool(value.trainable), "shared": self._uses(tensor, value) > 1}
            kind = "Variable" if is_learned else "Constant"
            self._add(name, kind, options, {"args": [], "kwargs": {}}, [tensor])
        for step in opened.steps:
            self._step(step)
        ends = {"input_layers": [list(self._refs[id(x)]) for x in opened.inputs.values()]}
        ends["output_layers"] = [list(self._refs[id(x)]) for x in opened.outputs]
        return {"class_name": "Functional", "config": {"name": opened.name, "layers": [*self._layers.values()], **ends}}

    def _uses(self, tensor: Any, value: Any) -> int:
        read = (x for step in self._opened.steps for x in keras.tree.flatten((step.args, step.kwargs)))
        return sum(x is tensor or x is value for x in [*read, *self._opened.outputs])

    def _step(self, step: Step) -> None:
        call = {"args": self._told(list(step.args)), "kwargs": self._told(dict(step.kwargs))}
        known = self._layers.get(step.name)
        if known is not None:
            known["inbound_nodes"].append(call)
            self._point(step.name, len(known["inbound_nodes"]) - 1, step.outputs)
            return
        try:
            told = keras.saving.serialize_keras_object(step.operation)
        except Exception as error:  # a layer's own get_config
            raise UnsupportedError(f"{step.name!r} does not say its configuration: {error}") from error
        self._add(step.name, told["class_name"], told["config"], call, step.outputs, told.get("module"))

    def _add(
        self, name: str, kind: str, options: Mapping[str, Any], call: Any, outputs: list[Any], module: Any = "keras"
    ) -> None:
        entry = {"class_name": kind, "module": module, "name": name, "config": {**options, "name": name}}
        self._layers[name] = {**entry, "inbound_nodes": [call]}
        self._point(name, 0, outputs)

    def _point(self, name: str, call: int, outputs: list[Any]) -> None:
        self._refs.update({id(tensor): (name, call, place) for place, tensor in enumerate(outputs)})

    def _told(self, value: Any) -> Any:
        """Return arguments as plain data."""
        if isinstance(value, keras.KerasTensor):
            return {"class_name": "__keras_tensor__", "config": {"keras_history": list(self._refs[id(value)])}}
        if isinstance(value, Mapping):
            return {str(key): self._told(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._told(item) for item in value]
        if value is Ellipsis:
            return "..."
        if value is None or isinstance(value, (bool, int, float, str, slice)):
            return value
        if is_array(value):
            return self._told(self._symbols[id(value)])
        return numpy_of(value).item() if keras.ops.is_tensor(value) or isinstance(value, np.generic) else str(value)
