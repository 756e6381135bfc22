"""The ONNX standard's own backend interface on torch: `onnx.backend.base`."""

from __future__ import annotations

from portnet.testing.backend import make_backend

__all__ = ["TorchBackend", "prepare", "run_model", "run_node", "supports_device"]

TorchBackend = make_backend("torch")
prepare = TorchBackend.prepare
run_model = TorchBackend.run_model
run_node = TorchBackend.run_node
supports_device = TorchBackend.supports_device
