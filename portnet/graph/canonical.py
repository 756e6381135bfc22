"""Canonical form: the small trainable form that every engine lowers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir.passes.common as passes

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["canonical"]


def canonical(model: Model, supports: frozenset[str] | None = None) -> Model:
    """Return ``model`` with shapes inferred."""
    copy = model.copy()
    passes.RemoveInitializersFromInputsPass()(copy.ir)
    passes.ShapeInferencePass()(copy.ir)
    return copy
