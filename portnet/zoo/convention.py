"""Turn the reference's edition of a network into another framework's, see `portnet.weights.convention`.

The editions share names and shapes of parameters; they differ in a few attributes, which are set here.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from portnet.weights.convention import Convention

__all__ = ["follow"]


def follow(graph: ir.Graph, convention: Convention) -> None:
    """Make a zoo graph compute by a convention."""
    for node in graph:
        if node.op_type == "BatchNormalization":
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", convention.epsilon)
        elif node.op_type == "Conv" and convention.pads_end:
            _pad_end(node)
    if convention.strides_first:
        nodes = {node.name or "": node for node in graph}
        for name, node in nodes.items():
            if name.endswith(".conv2") and _stride(node) > 1:
                _swap_strides(nodes[name.removesuffix("2") + "1"], node)


def _pad_end(node: ir.Node) -> None:
    """Pad even sizes at their end alone where the stride is 2; there are as many windows as before."""
    begin, *_, end = node.attributes["pads"].as_ints()
    if _stride(node) > 1 and begin:
        begins = [begin - 1 + size % 2 for size in _spatial(node.inputs[0])]
        node.attributes["pads"] = ir.AttrInt64s("pads", [*begins, end, end])


def _swap_strides(first: ir.Node, second: ir.Node) -> None:
    """Give the first convolution of a block the stride of the second; what lies between them shrinks."""
    first.attributes["strides"], second.attributes["strides"] = (
        second.attributes["strides"],
        first.attributes["strides"],
    )
    sizes = _spatial(second.outputs[0])
    for value in _between(first, second):
        assert value.shape is not None
        value.shape = ir.Shape([*value.shape[:2], *sizes])


def _between(first: ir.Node, second: ir.Node) -> Iterator[ir.Value]:
    """Yield the tensors from ``first`` to ``second``, the last one first."""
    value = second.inputs[0]
    while value is not None and value.producer() is not first:
        yield value
        value = value.producer().inputs[0]  # type: ignore[union-attr]
    yield first.outputs[0]


def _stride(node: ir.Node) -> int:
    return node.attributes["strides"].as_ints()[0]


def _spatial(value: ir.Value | None) -> list[int]:
    assert value is not None
    assert value.shape is not None
    return [int(size) for size in value.shape[2:]]  # type: ignore[arg-type]
