"""Shapes of networks of common ops whose sizes are numbers or pass through unchanged.

The standard's inference takes a graph as protobuf and gives it back as protobuf, which takes longer than all of the
arithmetic. Here the rules of a few dozen ops are written out; where one of them does not know, nothing is changed, and
the standard's inference (`portnet.graph.passes.shapes`) has its turn.
"""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.passes.plain_rules import BOOLEAN, FOLLOW, RULES, SIZES, Dims, Size, UnknownError
from portnet.graph.shared import shared_shape
from portnet.graph.sizes import NO_NAMES

__all__ = ["PlainWalk", "infer_plain_shapes"]

# constants of more entries are no shapes
MAX_ENTRIES = 64
# a file can double the axes of a tensor, or the entries of a list, with every node
MAX_RANK = 64
_INVENTED = "unk__"


def infer_plain_shapes(model: ir.Model) -> bool:
    """Infer element types and shapes anew, where every op has a rule here and every rule an answer.

    Requires: newest semantics.
    Ensures: every type and shape is known, and every size a number or a name of the inputs'; else nothing is changed.

    Returns:
        Whether it was done.
    """
    if not all(node.domain == "" and node.op_type in RULES for node in model.graph):
        return False
    walk = PlainWalk()
    try:
        for value in model.graph.inputs:
            walk.enter(value)
        for node in model.graph:
            walk.visit(node)
    except (UnknownError, IndexError, TypeError, ValueError, ArithmeticError):
        return False
    walk.write()
    return True


class PlainWalk:
    """What is known so far.

    Attributes:
        found: element type and sizes of each value.
        constants: those of initializers.
        entries: the entries of values that hold sizes; a scalar's one entry is no list.
    """

    def __init__(self) -> None:
        self.found: dict[ir.Value, tuple[ir.DataType, Dims]] = {}
        self.constants: dict[ir.Value, tuple[ir.DataType, Dims]] = {}
        self.entries: dict[ir.Value, list[Size] | Size] = {}

    def enter(self, value: ir.Value) -> None:
        """Take the type and shape of an input of the graph."""
        if value.shape is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
            raise UnknownError
        dims = tuple(size if isinstance(size, int) else size.value for size in value.shape)
        if any(size is None or size in NO_NAMES or str(size).startswith(_INVENTED) for size in dims):
            raise UnknownError
        self.found[value] = value.dtype, dims  # type: ignore[assignment]

    def visit(self, node: ir.Node) -> None:
        """Infer the outputs of a node."""
        dims = RULES[node.op_type](self, node)
        outputs = node.outputs
        if not isinstance(dims, list):
            if len(outputs) > 1 and any(output.name for output in outputs[1:]):
                raise UnknownError
            dims = [dims]
        dtype = self.dtype(node)
        for output, sizes in zip(outputs, dims, strict=False):
            if len(sizes) > MAX_RANK:
                raise UnknownError
            self.found[output] = dtype, sizes
        follow = FOLLOW.get(node.op_type)
        if follow is not None and len(dims[0]) < 2:
            entries = follow(self, node)
            if isinstance(entries, (int, str)) or (entries is not None and len(entries) <= MAX_ENTRIES):
                self.entries[outputs[0]] = entries

    def dtype(self, node: ir.Node) -> ir.DataType:
        """Return the element type of a node's outputs."""
        if node.op_type in BOOLEAN:
            return ir.DataType.BOOL
        if node.op_type == "Shape":
            return ir.DataType.INT64
        if node.op_type == "Cast":
            return ir.DataType(node.attributes["to"].value)
        return self.of(node.inputs[1 if node.op_type == "Where" else 0])[0]

    def write(self) -> None:
        """Write what was found into the graph."""
        for value, (dtype, dims) in self.found.items():
            if value.dtype != dtype or not isinstance(value.type, ir.TensorType):
                value.type = ir.TensorType(dtype)
            value.shape = shared_shape(dims)
        for value, (dtype, dims) in self.constants.items():
            if value.shape is None or value.shape.dims != dims or value.dtype != dtype:
                value.shape, value.type = shared_shape(dims), ir.TensorType(dtype)

    # ---- what rules ask

    def of(self, value: ir.Value | None) -> tuple[ir.DataType, Dims]:
        """Return the element type and sizes of a value."""
        if value is None:
            raise UnknownError
        known = self.found.get(value) or self.constants.get(value)
        if known is not None:
            return known
        tensor = value.const_value
        if tensor is None:
            raise UnknownError
        self.constants[value] = found = tensor.dtype, tuple(tensor.shape.numpy())
        return found

    def dims(self, node: ir.Node, index: int = 0) -> Dims:
        """Return the sizes of an input."""
        return self.of(node.inputs[index])[1]

    def sizes(self, node: ir.Node, index: int) -> list[Size] | None:
        """Return the entries of an input that is a list of sizes, or None where it is left out."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            return None
        entries = self.known(value)
        if not isinstance(entries, list):
            raise UnknownError
        return entries

    def known(self, value: ir.Value | None) -> list[Size] | Size | None:
        """Return the entries of a value of sizes, or None where it is none."""
        if value is None:
            return None
        if value not in self.entries and value.is_initializer():
            tensor = value.const_value
            if tensor is None or tensor.dtype not in SIZES or tensor.size > MAX_ENTRIES or len(tensor.shape) > 1:
                return None
            self.entries[value] = tensor.numpy().tolist()
        return self.entries.get(value)
