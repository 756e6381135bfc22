"""The role of each initializer is settled before ops are rewritten, and kept."""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.parameters import ROLE_MARK, roles

__all__ = ["pin_roles"]


def pin_roles(model: ir.Model) -> None:
    """Write its role on each initializer.

    An expanded LayerNormalization reads its scale in a Mul: the scale is still a norm's scale.

    Requires: Constant nodes lifted.
    Ensures: `portnet.graph.parameters.roles` gives the same answers after any later pass.
    """
    initializers = model.graph.initializers.data
    for name, role in roles(model).items():
        initializers[name].metadata_props[ROLE_MARK] = role.name
