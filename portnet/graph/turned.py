"""Matrices that an exporter turns for one product, as it writes linear layers of networks that are still to train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

if TYPE_CHECKING:
    from portnet.graph.lowering import Lowering

__all__ = ["turned_weight"]


def turned_weight(walk: Lowering[Any], value: ir.Value | None) -> ir.Value | None:
    """Return the (outputs, inputs) matrix of which ``value`` is the Transpose for one MatMul, or None.

    A dense layer takes it over as it lies, and nothing is made of the Transpose.
    """
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Transpose" or node.domain != "" or node.graph is not walk.graph:
        return None
    matrix = node.inputs[0]
    if matrix is None or not walk.is_weight(matrix) or not walk.is_exclusive(matrix):
        return None
    if len(matrix.const_value.shape) != 2 or not walk.roles[matrix.name or ""].trainable:  # type: ignore[union-attr]
        return None
    return matrix if _turns(node) and _is_right_factor(walk, node.outputs[0]) else None


def _turns(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    return perm is None or list(perm.as_ints()) == [1, 0]


def _is_right_factor(walk: Lowering[Any], value: ir.Value) -> bool:
    if not walk.is_exclusive(value):
        return False
    [(reader, place)] = value.uses()
    left = reader.inputs[0]
    is_product = reader.op_type == "MatMul" and reader.domain == "" and place == 1 and reader.graph is walk.graph
    return is_product and left is not None and len(left.shape or ()) >= 2
