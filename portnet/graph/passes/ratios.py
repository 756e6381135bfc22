"""A Resize by wanted size over present size is a Resize to the wanted size."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import Editor, Site, constant_array, every_node, set_input

__all__ = ["resize_to_sizes"]

# an end so far out means the end
MANY_AXES = 1000


def resize_to_sizes(model: ir.Model) -> None:
    """Give a Resize whose scales are computed as sizes / Shape(input) those sizes instead.

    Exporters of opset 10 and before had no other way to say a size. The ratio is no whole number while an axis is free,
    and rounds to a pixel less where it is not exact.

    Requires: newest semantics, constants folded.
    Ensures: such a Resize has sizes and no scales.
    """
    editor = Editor(model)
    for node in every_node(model.graph):
        if node.op_type == "Resize" and node.domain == "" and len(node.inputs) == 3:
            wanted = _wanted(node.inputs[2], node.inputs[0])
            if wanted is not None:
                kept, sizes = wanted
                site = Site(node, editor)
                shape = site.op("Shape", node.inputs[0], start=0, end=kept)
                sizes = site.op("Cast", sizes, to=int(ir.DataType.INT64))
                node.replace_input_with(2, None)
                set_input(node, 3, site.op("Concat", shape, sizes, axis=0))


def _wanted(scales: ir.Value | None, data: ir.Value | None) -> tuple[int, ir.Value] | None:
    """Return how many leading axes keep their size, and the sizes of the others; None where scales are no ratio."""
    concat = _producer(scales, "Concat")
    if concat is None or len(concat.inputs) != 2:
        return None
    ones, ratio = constant_array(concat.inputs[0]), _producer(concat.inputs[1], "Div")
    if ones is None or ratio is None or not np.all(ones == 1):
        return None
    present = _producer(_uncast(ratio.inputs[1]), "Slice")
    shape = None if present is None else _producer(present.inputs[0], "Shape")
    if present is None or shape is None or shape.inputs[0] is not data or shape.attributes:
        return None
    start, end = constant_array(present.inputs[1]), constant_array(present.inputs[2])
    if len(present.inputs) > 4 or start is None or end is None or start.tolist() != [ones.size] or end[0] < MANY_AXES:
        return None
    sizes = _uncast(ratio.inputs[0])
    return None if sizes is None else (ones.size, sizes)


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and node.domain == "" else None


def _uncast(value: ir.Value | None) -> ir.Value | None:
    cast = _producer(value, "Cast")
    return value if cast is None else cast.inputs[0]
