"""Cutting a graph: keep what some tensors need, and begin at others.

Backbones are cut at their feature tensor, frozen prefixes at the freeze frontier, checks at the tensor in question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.errors import ModelError, UnknownNameError
from portnet.graph.passes.rewrite import drop, every_node
from portnet.graph.passes.shapes import infer_shapes

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["cut"]


def cut(model: Model, *, outputs: Sequence[str] | None = None, inputs: Sequence[str] | None = None) -> Model:
    """Return the part of a network between tensors; metadata and weight arrays are shared with it.

    Args:
        model: the network; not changed.
        outputs: names of the tensors that become the outputs, in order; None for the network's own.
        inputs: names of tensors that become inputs in place of what computes them; None for the network's own.
            Inputs of the network that the part does not need are dropped.

    Raises:
        UnknownNameError: no tensor has that name; the nearest are offered.
        ModelError: the part still depends on an input of the network that ``inputs`` does not name.
    """
    copy = model.copy()
    graph = copy.ir.graph
    values = {value.name: value for value in _tensors(graph) if value.name}
    wanted = [_find(values, name) for name in outputs] if outputs is not None else list(graph.outputs)
    begins = [_find(values, name) for name in inputs] if inputs is not None else []
    if any(value.dtype is None or value.shape is None for value in [*wanted, *begins]):
        infer_shapes(copy.ir)
    graph.outputs[:] = wanted
    if inputs is not None:
        graph.inputs[:] = [_begin(graph, value) for value in begins]
    _keep_only_needed(graph)
    if inputs is not None:
        _check_closed(copy, inputs)
    return copy


def _tensors(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _find(values: dict[str, ir.Value], name: str) -> ir.Value:
    if name not in values:
        raise UnknownNameError("tensor", name, values)
    return values[name]


def _begin(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Return a new graph input that takes a tensor's place, name included."""
    if value.producer() is None:
        return value
    new = ir.Value(name=value.name, shape=value.shape, type=value.type)
    value.name = f"{value.name}.computed"
    value.replace_all_uses_with(new)
    graph.outputs[:] = [new if output is value else output for output in graph.outputs]
    return new


def _keep_only_needed(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(output.is_graph_output() or list(output.uses()) for output in node.outputs):
            drop(node)
    for name, value in list(graph.initializers.items()):
        if not list(value.uses()) and not value.is_graph_output():
            del graph.initializers[name]
    graph.inputs[:] = [value for value in graph.inputs if list(value.uses()) or value.is_graph_output()]


def _check_closed(model: Model, inputs: Sequence[str]) -> None:
    graph = model.ir.graph
    known = {*graph.inputs, *graph.initializers.values()}
    for node in every_node(graph):
        for value in node.inputs:
            if value is not None and value.producer() is None and value not in known and value.graph in (None, graph):
                raise ModelError(
                    f"cut: the part from {', '.join(inputs)} on also needs the input {value.name!r}. Name it as well."
                )
