"""The arithmetic that exporters write for GELU is the op Gelu."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from portnet.graph.parameters import ROLE_MARK, Role
from portnet.graph.passes.rewrite import Editor, Site, constant_array, every_node

__all__ = ["fuse_gelu"]

# of the tanh approximation; Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016)
CUBIC = 0.044715


def fuse_gelu(model: ir.Model) -> None:
    """Replace ``x * 0.5 * (1 + erf(x / sqrt(2)))``, in any order of its factors, and its tanh approximation by Gelu.

    Requires: newest semantics, constants folded.
    Ensures: GELU is one node, where nothing else reads a tensor inside of it.
    """
    editor = Editor(model)
    for node in list(every_node(model.graph)):
        inside = {"Erf": _erf_inside, "Tanh": _tanh_inside}.get(node.op_type) if node.domain == "" else None
        x = None if inside is None else inside(node.inputs[0])
        last = None if x is None else _half_of_product(x, _only_reader(node, "Add"))
        if last is not None:
            site = Site(last, editor)
            site.replace(site.op("Gelu", x, approximate="none" if node.op_type == "Erf" else "tanh"))


def _half_of_product(x: ir.Value, one_more: ir.Node | None) -> ir.Node | None:
    """Return the last node of ``0.5 * x * y``, where ``one_more`` is the node of ``y = 1 + ...``."""
    if one_more is None or _factor(one_more, lambda value: _is(value, 1.0)) is None:
        return None
    first = _only_reader(one_more, "Mul")
    other = None if first is None else _factor(first, lambda value: value is not one_more.outputs[0])
    if first is None or other is None:
        return None
    if _scaled(other, 0.5) is x:
        return first
    second = _only_reader(first, "Mul", "Div")
    if second is None:
        return None
    if other is x:
        return second if _scaling(second, 0.5) is not None else None
    is_half = second.op_type == "Mul" and _is(other, 0.5)
    return second if is_half and any(value is x for value in second.inputs) else None


def _erf_inside(value: ir.Value | None) -> ir.Value | None:
    """Return x where the value is x / sqrt(2)."""
    return _scaled(value, math.sqrt(0.5))


def _tanh_inside(value: ir.Value | None) -> ir.Value | None:
    """Return x where the value is sqrt(2 / pi) * (x + 0.044715 * x ** 3)."""
    total = _producer(_scaled(value, math.sqrt(2 / math.pi)), "Add")
    if total is None:
        return None
    for x, term in (total.inputs, reversed(total.inputs)):
        if x is not None and _is_cube(_scaled(term, CUBIC), x):
            return x
    return None


def _is_cube(value: ir.Value | None, x: ir.Value) -> bool:
    power = _producer(value, "Pow")
    if power is not None:
        return power.inputs[0] is x and _is(power.inputs[1], 3.0)
    product = _producer(value, "Mul")
    square = None if product is None else _producer(_factor(product, lambda factor: factor is not x), "Mul")
    return square is not None and all(factor is x for factor in square.inputs)


def _scaled(value: ir.Value | None, scale: float) -> ir.Value | None:
    """Return x where the value is x * scale or x / (1 / scale), and nothing else reads it."""
    node = _producer(value, "Mul", "Div")
    return None if node is None else _scaling(node, scale)


def _scaling(node: ir.Node, scale: float) -> ir.Value | None:
    """Return x where a Mul or Div computes x * scale."""
    if node.op_type == "Div":
        return node.inputs[0] if _is(node.inputs[1], 1 / scale) else None
    if _factor(node, lambda factor: _is(factor, scale)) is None:
        return None
    return _factor(node, lambda factor: not _is(factor, scale))


def _factor(node: ir.Node, wanted: Callable[[ir.Value | None], bool]) -> ir.Value | None:
    """Return the first of a node's inputs that is wanted."""
    return next((value for value in node.inputs if wanted(value)), None)


def _is(value: ir.Value | None, number: float) -> bool:
    """Whether a value is a constant, of one element and no parameter, that is a number as its type rounds it."""
    if value is None or value.metadata_props.get(ROLE_MARK, Role.CONSTANT.name) != Role.CONSTANT.name:
        return False
    array = constant_array(value)
    if array is None or array.size != 1 or array.ndim > 1 or array.dtype.kind not in "fV":
        return False
    step = float(np.spacing(np.asarray(number).astype(array.dtype)))
    return abs(float(array.reshape(())) - number) <= 2 * step


def _producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """Return the node, of one of the ops, that computes a value which one node alone reads."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    node = value.producer()
    return node if node is not None and node.op_type in op_types and node.domain == "" else None


def _only_reader(node: ir.Node, *op_types: str) -> ir.Node | None:
    """Return the one node that reads a node's output, if it is of one of the ops."""
    output = node.outputs[0]
    uses = () if output.is_graph_output() else output.uses()
    reader = next(iter(uses))[0] if len(uses) == 1 else None
    return reader if reader is not None and reader.op_type in op_types and reader.domain == "" else None
