"""The ONNX standard's own interface (`onnx.backend.base`) over any engine.

>>> from portnet.testing.backend import make_backend
>>> backend = make_backend("torch")                        # doctest: +SKIP
>>> backend.prepare(onnx.load("m.onnx")).run([x])          # doctest: +SKIP

Lowering happens in ``prepare`` where the graph alone is enough; else a network is specialised on the inputs that
its engine must know while building, in ``run`` (see `portnet.testing.specialise`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from portnet.engines import engine
from portnet.errors import InputError, PortNetError
from portnet.graph.model import Model
from portnet.testing.specialise import Specialiser

__all__ = ["EngineBackend", "EngineRep", "make_backend"]


class EngineRep(BackendRep):
    """A network that is ready to run on one engine."""

    def __init__(self, engine_name: str, model: Model, device: str) -> None:
        self._inputs = model.inputs
        self._outputs = [port.name for port in model.outputs]
        self._result = namedtupledict("Outputs", self._outputs)
        self._specialiser = Specialiser(engine(engine_name), model, device)

    def specialise(self, inputs: Any) -> None:
        """Do all conversion that running on ``inputs`` takes, so that a refusal comes before anything runs.

        Raises:
            UnsupportedError: the engine cannot express the network.
            InputError: another number of inputs, or an unknown name.
        """
        self._specialiser.lower(self._feeds(inputs))

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the network.

        Args:
            inputs: arrays in the order of the model's inputs (initializers are no inputs), a dict by name, or one
                array. A sequence is a list of arrays, an absent optional is None, strings have dtype object.
            kwargs: ignored, as the interface asks.

        Returns:
            A tuple of the outputs in the model's order; an output can be had by its name too.

        Raises:
            UnsupportedError: the engine cannot express the network, found when its inputs were seen.
            InputError: another number of inputs, or an unknown name.
        """
        feeds = self._feeds(inputs)
        lowered = self._specialiser.lower(feeds)
        wanted = {port.name for port in lowered.model.inputs}
        results = lowered.run({name: value for name, value in feeds.items() if name in wanted})
        return self._result(*(results[name] for name in self._outputs))

    def _feeds(self, inputs: Any) -> dict[str, Any]:
        names = [port.name for port in self._inputs]
        if not isinstance(inputs, Mapping):
            values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            if len(values) != len(names):
                raise InputError(f"run: got {len(values)} inputs, expected {len(names)}: {', '.join(names)}")
            inputs = dict(zip(names, values, strict=True))
        if set(inputs) != set(names):
            raise InputError(f"run: got inputs {', '.join(sorted(inputs))}, expected {', '.join(names)}")
        return {port.name: _normal(inputs[port.name], port.dtype) for port in self._inputs}


class EngineBackend(Backend):
    """`onnx.backend.base.Backend` over the engine named by ``engine_name``."""

    engine_name: str

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> EngineRep:
        """Lower ``model`` and return what runs it.

        Args:
            model: any valid ONNX model.
            device: "CPU", "CUDA" or "CUDA:n".
            kwargs: ignored, as the interface asks.

        Raises:
            UnsupportedError: the engine cannot express the network.
            ModelError: the model is broken.
        """
        return EngineRep(cls.engine_name, Model.from_bytes(model.SerializeToString()), cls._device(device))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Lower ``model``, run it once on ``inputs`` and return its outputs in order; see `prepare`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run a single op.

        Args:
            node: the op, its attributes and the names of its inputs and outputs.
            inputs: one value for each of the node's inputs that is not left out, in order.
            device: "CPU", "CUDA" or "CUDA:n".
            outputs_info: dtype and shape of each output; inferred from the standard when None.
            kwargs: ``opset_version`` of the node's domain; the newest that the onnx package knows by default.

        Raises:
            UnsupportedError: the engine cannot express the op.
            ModelError: the node is broken.
        """
        arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        model, feeds = node_model(node, arrays, outputs_info, kwargs.get("opset_version"))
        return cls.run_model(model, feeds, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the engine can run on ``device`` ("CPU", "CUDA", "CUDA:1") here and now."""
        return cls._device(device) in engine(cls.engine_name).devices()

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` accepts ``model``; found out by lowering it."""
        try:
            cls.prepare(model, device, **kwargs)
        except PortNetError:
            return False
        return True

    @staticmethod
    def _device(device: str) -> str:
        name = device.lower()
        return f"{name}:0" if name == "cuda" else name


def make_backend(engine_name: str) -> type[EngineBackend]:
    """Return the class that offers engine ``engine_name`` by the standard's interface; imports no framework."""
    return type(f"{engine_name.capitalize()}Backend", (EngineBackend,), {"engine_name": engine_name})


def node_model(
    node: onnx.NodeProto,
    inputs: Sequence[Any],
    outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
    opset_version: int | None = None,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return a model of one node, and its inputs by name."""
    names = [name for name in node.input if name]
    present = [value for value in inputs if value is not None]
    if len(names) != len(present):
        raise InputError(f"run_node: got {len(present)} inputs, expected {len(names)}: {', '.join(names)}")
    feeds = {name: _normal(value, "") for name, value in zip(names, present, strict=True)}
    ports = [onnx.helper.make_value_info(name, _type_of(value)) for name, value in feeds.items()]
    outputs = _outputs(node, outputs_info)
    opset = opset_version or _newest_opset(node.domain)
    graph = onnx.helper.make_graph([node], node.op_type, ports, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, opset)])
    return (model if outputs_info else onnx.shape_inference.infer_shapes(model)), feeds


def _outputs(
    node: onnx.NodeProto, outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None
) -> list[onnx.ValueInfoProto]:
    names = [name for name in node.output if name]
    if not outputs_info:
        return [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    return [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, (dtype, shape) in zip(names, outputs_info, strict=True)
    ]


def _newest_opset(domain: str) -> int:
    return max(s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain)


def _type_of(value: Any) -> onnx.TypeProto:
    if isinstance(value, list):
        return onnx.helper.make_sequence_type_proto(_type_of(value[0]))
    return onnx.helper.make_tensor_type_proto(_element_type(value.dtype), value.shape)


def _element_type(dtype: np.dtype) -> int:
    return onnx.TensorProto.STRING if dtype.kind in "OUS" else onnx.helper.np_dtype_to_tensor_dtype(dtype)


def _normal(value: Any, dtype: str) -> Any:
    """Return a value as engines take it: an array, a list of them, a dict, or None."""
    if value is None or isinstance(value, dict):
        return value
    if isinstance(value, onnx.TensorProto):
        return _normal(onnx.numpy_helper.to_array(value), dtype)
    if isinstance(value, (list, tuple)) and not _is_numbers(value):
        return [_normal(item, dtype) for item in value]
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) or not dtype else np.asarray(value, dtype)
    return array.astype(object) if array.dtype.kind in "US" else array


def _is_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, (bool, int, float)) for value in values)
