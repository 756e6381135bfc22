"""What no machine holds, and what none gets done with, is refused before anybody begins."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.branches import stays_true
from portnet.graph.passes.rewrite import constant_array, every_node, item_bytes

__all__ = ["MAX_LOOP_STEPS", "MAX_TENSOR_BYTES", "refuse_endless_loops", "refuse_huge_tensors"]

# one activation; a file of a hundred bytes can ask for terabytes
MAX_TENSOR_BYTES = 1 << 34
# the shortest step takes a microsecond
MAX_LOOP_STEPS = 10**9


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


def refuse_endless_loops(model: ir.Model) -> None:
    """Refuse a Loop of more than `MAX_LOOP_STEPS` constant steps, or of any number, that no condition ends.

    Requires: constants folded.
    Ensures: every Loop ends, if the data say so.

    Raises:
        ModelError: there is such a Loop.
    """
    for node in every_node(model.graph):
        if node.op_type != "Loop" or node.domain != "":
            continue
        trips, condition = (None if value is None else constant_array(value) for value in node.inputs[:2])
        starts = node.inputs[1] is None or (condition is not None and bool(condition.all()))
        counted = node.inputs[0] is not None and (trips is None or np.all(trips <= MAX_LOOP_STEPS))
        if starts and not counted and stays_true(node.attributes["body"].as_graph()):
            steps = "endless" if trips is None else f"{int(trips.item()):,}"
            raise ModelError(
                f"Loop node {node.name!r}: {steps} steps that no condition ends, expected at most {MAX_LOOP_STEPS:,}"
            )


def _least_bytes(value: ir.Value) -> int:
    shape = value.shape
    if shape is None or not isinstance(value.type, (ir.TensorType, type(None))):
        return 0
    return math.prod([size for size in shape.dims if isinstance(size, int)]) * item_bytes(value.dtype)
