"""The ONNX standard's own interface (``onnx.backend.base``) over this engine."""

from __future__ import annotations

from portnet.testing.backend import make_backend

__all__ = ["prepare", "run_model", "run_node", "supports_device"]

_backend = make_backend("gluon")

prepare = _backend.prepare
run_model = _backend.run_model
run_node = _backend.run_node
supports_device = _backend.supports_device
