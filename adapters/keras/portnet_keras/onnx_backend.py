"""The ONNX standard's backend interface (`onnx.backend.base`) for the Keras engine."""

from __future__ import annotations

from portnet.testing.backend import make_backend

__all__ = ["KerasBackend", "prepare", "run_model", "run_node", "supports_device"]

KerasBackend = make_backend("keras")

prepare = KerasBackend.prepare
run_model = KerasBackend.run_model
run_node = KerasBackend.run_node
supports_device = KerasBackend.supports_device
