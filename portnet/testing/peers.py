"""The standard's own evaluator and onnxruntime as backends, to measure engines against."""

from __future__ import annotations

from typing import Any

import onnx
from onnx.backend.base import Backend, BackendRep

from portnet.engines import engine
from portnet.testing.backend import make_backend

__all__ = ["PEERS", "OnnxRuntimeBackend", "ReferenceBackend", "backend_of", "version_of"]


class _Rep(BackendRep):
    """Runs ``function`` (feeds by name → outputs) on inputs in the order of ``names``."""

    def __init__(self, function: Any, names: list[str]) -> None:
        self._function, self._names = function, names

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        return tuple(self._function(None, dict(zip(self._names, inputs, strict=True))))


class ReferenceBackend(Backend):
    """`onnx.reference.ReferenceEvaluator`."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Return what runs ``model``."""
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        given = {tensor.name for tensor in model.graph.initializer}
        return _Rep(evaluator.run, [name for name in evaluator.input_names if name not in given])


class OnnxRuntimeBackend(Backend):
    """onnxruntime on the CPU."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Return what runs ``model``.

        Raises:
            ModelError: onnxruntime rejects it.
        """
        from portnet.runtime.providers import open_session

        session = open_session(model.SerializeToString(), "cpu")
        return _Rep(session.run, [port.name for port in session.get_inputs()])


PEERS: dict[str, type[Backend]] = {"onnx.reference": ReferenceBackend, "onnxruntime": OnnxRuntimeBackend}


def backend_of(name: str) -> type[Backend]:
    """Return the backend of an engine or of one of `PEERS`.

    Raises:
        PortNetError: it is not installed.
    """
    if name in PEERS:
        return PEERS[name]
    engine(name)
    return make_backend(name)


def version_of(name: str) -> str:
    """Return what a backend is called in tables, with its version, e.g. ``PyTorch 2.13.0``."""
    if name == "onnx.reference":
        return f"onnx.reference {onnx.__version__}"
    if name == "onnxruntime":
        from portnet.runtime.providers import onnxruntime

        return f"onnxruntime {onnxruntime().__version__}"
    adapter = engine(name)
    return f"{adapter.framework} {adapter.version().split('+')[0]}"
