"""TensorFlow Lite's operations that tf2onnx leaves in the graph as they are: in those of ONNX, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from portnet.formats.captured import Missing

__all__ = ["without_leftovers"]

_PREFIX = "TFL_"


def without_leftovers(data: bytes, source: str) -> bytes:
    """Return a model of tf2onnx without operations that are no ONNX.

    Raises:
        UnsupportedError: names all that have no translation.
    """
    proto = onnx.load_from_string(data)
    if not any(node.op_type.startswith(_PREFIX) for node in proto.graph.node):
        return data
    missing = Missing(source)
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        build = _TABLE.get(node.op_type)
        if build is not None:
            nodes += build(proto.graph, node)
        elif node.op_type.startswith(_PREFIX):
            missing.add(node.op_type.removeprefix(_PREFIX), node.name.partition(";")[0])
        else:
            nodes.append(node)
    missing.raise_if_any()
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto.SerializeToString()


def _gelu(graph: onnx.GraphProto, node: NodeProto) -> Iterator[NodeProto]:
    """x · (1 + f(x)) / 2, f being erf of x / √2 or, approximately, tanh of √(2/π) · (x + 0.044715 x³)."""
    x, y = node.input[0], node.output[0]
    approximate = any(attribute.name == "approximate" and attribute.i for attribute in node.attribute)

    def number(what: str, value: float) -> str:
        name = f"{y}/number/{what}"
        graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
        return name

    if approximate:
        yield helper.make_node("Pow", [x, number("three", 3)], [f"{y}/cube"])
        yield helper.make_node("Mul", [f"{y}/cube", number("share", 0.044715)], [f"{y}/share"])
        yield helper.make_node("Add", [x, f"{y}/share"], [f"{y}/sum"])
        yield helper.make_node("Mul", [f"{y}/sum", number("scale", math.sqrt(2 / math.pi))], [f"{y}/scaled"])
        yield helper.make_node("Tanh", [f"{y}/scaled"], [f"{y}/f"])
    else:
        yield helper.make_node("Div", [x, number("root", math.sqrt(2))], [f"{y}/scaled"])
        yield helper.make_node("Erf", [f"{y}/scaled"], [f"{y}/f"])
    yield helper.make_node("Add", [f"{y}/f", number("one", 1)], [f"{y}/plus"])
    yield helper.make_node("Mul", [x, f"{y}/plus"], [f"{y}/product"])
    yield helper.make_node("Mul", [f"{y}/product", number("half", 0.5)], [y])


_TABLE: dict[str, Callable[[onnx.GraphProto, NodeProto], Iterator[NodeProto]]] = {"TFL_GELU": _gelu}
