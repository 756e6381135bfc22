"""Sizes that follow from free ones get names: equal sizes the same name.

The standard's inference makes a new symbol of every size that it would have to compute with a free one, so that
behind the first convolution of a network of free width no two widths are known to be equal.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import sympy

from portnet.errors import PortNetError
from portnet.graph.floors import FLOORS, Floors
from portnet.graph.host import HostValue, evaluate, shape_of
from portnet.graph.lowering import NodeView
from portnet.graph.passes.reshapes import is_invented
from portnet.graph.passes.rewrite import every_graph, subgraphs
from portnet.graph.passes.shapes import infer_node
from portnet.graph.passes.size_rules import RULES, UnknownSizeError, constant
from portnet.graph.sizes import NO_NAMES, SIZES, axis_size, named_size, register_sizes

__all__ = ["SizeWalk", "name_sizes"]

_FAILURES = (UnknownSizeError, PortNetError, IndexError, KeyError, TypeError, ValueError, ArithmeticError)


def name_sizes(model: ir.Model) -> None:
    """Give each size that inference left open a name that says how it follows from others, or one of its own.

    Sums and products of names are remembered in the graph's ``meta``, so that arithmetic sees through them.

    Requires: newest semantics, inferred shapes.
    Ensures: values of the same size name have the same size wherever the network runs; no size of a node's output
        of known rank is without a name.
    """
    for value in model.graph.inputs:
        _forget_fillers(value)
    if all(_is_settled(output) for graph in every_graph(model) for node in graph for output in node.outputs):
        return
    given = {value: value.shape for value in model.graph.inputs}
    SizeWalk(model).graph(model.graph)
    for value, shape in given.items():
        value.shape = _with_names_for_invented(shape, value.shape)


def _with_names_for_invented(given: ir.Shape | None, named: ir.Shape | None) -> ir.Shape | None:
    """Return an input's shape as it was given, but that what a converter numbered has the name that others follow from.

    Inference uses the same numbers for sizes of its own.
    """
    if given is None or named is None:
        return given
    return ir.Shape([new if old != new and _is_numbered(old) else old for old, new in zip(given, named, strict=True)])


def _is_numbered(size: int | ir.SymbolicDim) -> bool:
    return is_invented(size) and getattr(size, "value", None) is not None


def _forget_fillers(value: ir.Value) -> None:
    if value.shape is not None:
        value.shape = ir.Shape([None if getattr(n, "value", n) in NO_NAMES else n for n in value.shape])


def _is_settled(value: ir.Value) -> bool:
    return value.shape is not None and not any(map(is_invented, value.shape))


class SizeWalk:
    """Visits nodes in order and keeps what is known of shapes' values, as lowering will.

    Attributes:
        host_values: what is known of a value's entries.
        symbols: a place where each size can be read.
        named_sizes: what a size's name stands for.
        floors: the symbols of sizes behind windows.
        limits: of each size that is the smaller one of a number and a free size, the free size.
    """

    def __init__(self, model: ir.Model) -> None:
        self.host_values: dict[ir.Value, HostValue] = {}
        self.symbols: dict[Any, tuple[ir.Value, int]] = {}
        self.named_sizes: dict[str, Any] = {}
        self.limits: dict[Any, Any] = {}
        model.graph.meta[SIZES] = self.named_sizes
        self.floors = model.graph.meta[FLOORS] = Floors()
        self._opset = model.opset_imports.get("", 1)

    def graph(self, graph: ir.Graph) -> None:
        """Name the sizes of a graph and the graphs inside."""
        for value in graph.inputs:
            self._name_own(value)
        for node in graph:
            for inner in subgraphs(node):
                self.graph(inner)
            if node.domain == "":
                view = NodeView(node, self._opset)
                if not all(map(_is_settled, node.outputs)):
                    self._settle(view)
                self._follow(view)
            for output in node.outputs:
                self._name_own(output)

    def _settle(self, view: NodeView) -> None:
        before = [output.shape for output in view.outputs]
        infer_node(view.ir, view.opset)
        for output, shape in zip(view.outputs, before, strict=True):
            output.shape = _merged(shape, output.shape)
        rule = RULES.get(view.op)
        if rule is None:
            return
        try:
            shapes = rule(view, self)
        except _FAILURES:
            return
        for output, sizes in zip(view.outputs, shapes, strict=False):
            names = ir.Shape([named_size(self, self._with_floor(size)) for size in sizes])
            output.shape = _merged(output.shape, names)

    def _with_floor(self, size: Any) -> Any:
        named = self.floors.symbol_of(size) if isinstance(size, sympy.Basic) and size.has(sympy.floor) else None
        return size if named is None else named

    def _name_own(self, value: ir.Value) -> None:
        """Give each size that nothing is known of the name of its place."""
        if value.shape is None or not isinstance(value.type, (ir.TensorType, type(None))):
            return
        if any(map(is_invented, value.shape)):
            value.shape = ir.Shape([f"{value.name}.{i}" if is_invented(n) else n for i, n in enumerate(value.shape)])
        register_sizes(self, value)

    def _follow(self, view: NodeView) -> None:
        """Evaluate shape arithmetic."""
        if view.op in ("Shape", "Size"):
            source = view.input(0)
            if source is not None and (source in self.host_values or source.shape is not None):
                self.host_values[view.outputs[0]] = shape_of(self, view, source)
            return
        inputs = [None if value is None else self.known(value) for value in view.inputs]
        if not inputs or any(v is not None and k is None for v, k in zip(view.inputs, inputs, strict=True)):
            return
        try:
            results = evaluate(view, inputs, self.floors)
        except _FAILURES:
            return
        self.host_values.update(zip(view.outputs, results or (), strict=False))

    # ---- what rules ask

    def known(self, value: ir.Value) -> HostValue | None:
        """Return a small constant or a value of shape arithmetic, or None."""
        if value not in self.host_values:
            found = constant(value)
            if found is None:
                return None
            self.host_values[value] = found
        return self.host_values[value]

    def sizes(self, value: ir.Value | None) -> list[Any]:
        """Return the sizes of a value, expressions where they are free.

        Raises:
            UnknownSizeError: its rank is unknown.
        """
        if value is None or value.shape is None or not isinstance(value.type, ir.TensorType):
            raise UnknownSizeError
        return [axis_size(self, value, axis, size) for axis, size in enumerate(value.shape)]

    def entries(self, value: ir.Value | None) -> list[Any]:
        """Return the entries of a shape-like value.

        Raises:
            UnknownSizeError: it depends on data.
        """
        known = None if value is None else self.known(value)
        if known is None or known.array.ndim > 1:
            raise UnknownSizeError
        return [self.floors.respelled(entry, self.symbols) for entry in known.array.reshape(-1).tolist()]


def _merged(first: ir.Shape | None, second: ir.Shape | None) -> ir.Shape | None:
    """Return a shape, with the sizes of another where it has none or but a made-up one."""
    if first is None or second is None or len(first) != len(second):
        return second if first is None else first
    return ir.Shape([b if is_invented(a) else a for a, b in zip(first, second, strict=True)])
