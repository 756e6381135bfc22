"""A tensor that no machine holds is refused before anybody makes it."""

from __future__ import annotations

import math

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import every_node, item_bytes

__all__ = ["MAX_TENSOR_BYTES", "refuse_huge_tensors"]

# one activation; a file of a hundred bytes can ask for terabytes
MAX_TENSOR_BYTES = 1 << 34


def refuse_huge_tensors(model: ir.Model) -> None:
    """Refuse a node whose result would not fit into `MAX_TENSOR_BYTES` even where all free sizes are 1.

    Requires: inferred shapes.
    Ensures: every size that the graph alone decides is bounded.

    Raises:
        ModelError: there is such a node.
    """
    for node in every_node(model.graph):
        for output in node.outputs:
            size = _least_bytes(output)
            if size > MAX_TENSOR_BYTES:
                raise ModelError(
                    f"{node.op_type} node {node.name!r}: its result {output.name!r} of shape {output.shape} "
                    f"takes {size / 2**30:,.0f} GiB, expected at most {MAX_TENSOR_BYTES / 2**30:.0f}"
                )


def _least_bytes(value: ir.Value) -> int:
    if value.shape is None or not isinstance(value.type, (ir.TensorType, type(None))):
        return 0
    return int(item_bytes(value.dtype) * math.prod(size for size in value.shape if isinstance(size, int)))
