"""Shapes of networks of common ops whose sizes are numbers or pass through unchanged.

The standard's inference takes a graph as protobuf and gives it back as protobuf, which takes longer than all of the
arithmetic. Here the rules of a few dozen ops are written out; where one of them does not know, nothing is changed, and
the standard's inference (`portnet.graph.passes.shapes`) has its turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from portnet.graph.passes.rewrite import python_attribute

__all__ = ["RULES", "infer_plain_shapes"]

Size = int | str
Dims = tuple[Size, ...]

# constants of more entries are no shapes
MAX_ENTRIES = 64
# what exporters write for a size that they do not know, and what inference calls one
_NO_NAMES = frozenset({"?", "-1", "None", ""})
_INVENTED = "unk__"
# an end so far out means the end
_FAR = 1 << 30


class UnknownError(Exception):
    """A rule cannot tell."""


def infer_plain_shapes(model: ir.Model) -> bool:
    """Infer element types and shapes anew, where every op has a rule here and every rule an answer.

    Requires: newest semantics.
    Ensures: every type and shape is known, and every size a number or a name of the inputs'; else nothing is changed.

    Returns:
        Whether it was done.
    """
    if not all(node.domain == "" and node.op_type in RULES for node in model.graph):
        return False
    walk = _Walk()
    try:
        for value in model.graph.inputs:
            walk.enter(value)
        for node in model.graph:
            walk.visit(node)
    except (UnknownError, IndexError, TypeError, ValueError, ArithmeticError):
        return False
    walk.write()
    return True


class _Walk:
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
        if any(size is None or size in _NO_NAMES or str(size).startswith(_INVENTED) for size in dims):
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
            self.found[output] = dtype, sizes
        follow = _FOLLOW.get(node.op_type)
        if follow is not None and len(dims[0]) < 2:
            entries = follow(self, node)
            if entries is not None:
                self.entries[outputs[0]] = entries

    def dtype(self, node: ir.Node) -> ir.DataType:
        """Return the element type of a node's outputs."""
        if node.op_type in _BOOLEAN:
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
            value.shape = ir.Shape(dims)
        for value, (dtype, dims) in self.constants.items():
            if value.shape is None or value.shape.dims != dims or value.dtype != dtype:
                value.shape, value.type = ir.Shape(dims), ir.TensorType(dtype)

    # ---- what rules ask

    def of(self, value: ir.Value | None) -> tuple[ir.DataType, Dims]:
        """Return the element type and sizes of a value."""
        if value is None:
            raise UnknownError
        known = self.found.get(value) or self.constants.get(value)
        if known is None:
            tensor = value.const_value
            if tensor is None:
                raise UnknownError
            known = self.constants[value] = tensor.dtype, tensor.shape.numpy()
        return known

    def dims(self, node: ir.Node, index: int = 0) -> Dims:
        """Return the sizes of an input."""
        return self.of(node.inputs[index])[1]

    def numbers(self, dims: Dims) -> tuple[int, ...]:
        """Return sizes all of which are numbers."""
        if not all(isinstance(size, int) for size in dims):
            raise UnknownError
        return dims  # type: ignore[return-value]

    def list(self, node: ir.Node, index: int) -> list[Size] | None:
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
            if tensor is None or tensor.dtype not in _SIZES or tensor.size > MAX_ENTRIES or len(tensor.shape) > 1:
                return None
            self.entries[value] = tensor.numpy().tolist()
        return self.entries.get(value)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UnknownError
    return axis % rank


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


# ---- shapes, op by op


def _same(walk: _Walk, node: ir.Node) -> Dims:
    return walk.dims(node)


def _normalized(walk: _Walk, node: ir.Node) -> Dims:
    if _attribute(node, "training_mode", 0):
        raise UnknownError
    return walk.dims(node)


def _broadcast(walk: _Walk, node: ir.Node) -> Dims:
    types, shapes = zip(*map(walk.of, node.inputs), strict=True)
    if len(set(types[-2:])) > 1 and node.op_type != "Pow":
        raise UnknownError
    return _joined(*shapes)


def _joined(*shapes: Dims) -> Dims:
    """Return what shapes broadcast to."""
    first, *others = shapes
    if all(shape == first or not shape for shape in others):
        return first
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    return tuple(map(_common, columns))


def _common(sizes: tuple[Size, ...]) -> Size:
    left = {size for size in sizes if size != 1}
    if len(left) > 1:
        raise UnknownError
    return left.pop() if left else 1


def _conv(walk: _Walk, node: ir.Node) -> Dims:
    (batch, _, *sizes), (outs, _, *kernel) = walk.dims(node), walk.dims(node, 1)
    return (batch, outs, *_windows(walk, node, sizes, kernel))


def _pool(walk: _Walk, node: ir.Node) -> Dims:
    batch, channels, *sizes = walk.dims(node)
    return (batch, channels, *_windows(walk, node, sizes, node.attributes["kernel_shape"].value))


def _windows(walk: _Walk, node: ir.Node, sizes: list[Size], kernel: Any) -> list[int]:
    count = len(walk.numbers(tuple(sizes)))
    walk.numbers(tuple(kernel))
    strides, dilations = _attribute(node, "strides", [1] * count), _attribute(node, "dilations", [1] * count)
    pads, mode = _attribute(node, "pads", [0] * 2 * count), python_attribute(node, "auto_pad", "NOTSET")
    if not count == len(kernel) == len(strides) == len(dilations) == len(pads) // 2:
        raise UnknownError
    if mode != "NOTSET":
        raise UnknownError
    ceil, found = _attribute(node, "ceil_mode", 0), []
    for size, start, end, width, stride, dilation in zip(
        sizes, pads, pads[count:], kernel, strides, dilations, strict=False
    ):
        room = size + start + end - dilation * (width - 1) - 1  # type: ignore[operator]
        steps = -(-room // stride) if ceil else room // stride
        # whether a window may begin in the padding behind depends on the version of the op
        if room < 0 or (ceil and steps * stride >= size + start):  # type: ignore[operator]
            raise UnknownError
        found.append(steps + 1)
    return found


def _global_pool(walk: _Walk, node: ir.Node) -> Dims:
    batch, channels, *sizes = walk.dims(node)
    return (batch, channels, *(1 for _ in sizes))


def _matmul(walk: _Walk, node: ir.Node) -> Dims:
    a, b = walk.dims(node), walk.dims(node, 1)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise UnknownError
    return (*_joined(a[:-2], b[:-2]), a[-2], b[-1])


def _gemm(walk: _Walk, node: ir.Node) -> Dims:
    a, b = walk.dims(node), walk.dims(node, 1)
    rows, inner = reversed(a) if _attribute(node, "transA", 0) else a
    other, columns = reversed(b) if _attribute(node, "transB", 0) else b
    if inner != other:
        raise UnknownError
    return (rows, columns)


def _flatten(walk: _Walk, node: ir.Node) -> Dims:
    dims, axis = walk.dims(node), _attribute(node, "axis", 1)
    axis = axis if axis == len(dims) else _axis(axis, len(dims))
    return (_product(dims[:axis]), _product(dims[axis:]))


def _product(dims: Dims) -> Size:
    """Return a product of numbers, or a size that stands alone."""
    kept = [size for size in dims if size != 1]
    return kept[0] if len(kept) == 1 else math.prod(_Walk.numbers(None, tuple(kept)))  # type: ignore[arg-type]


def _reshape(walk: _Walk, node: ir.Node) -> Dims:
    before, after = walk.dims(node), walk.list(node, 1)
    if after is None or _attribute(node, "allowzero", 0):
        raise UnknownError
    after = [before[axis] if size == 0 else size for axis, size in enumerate(after)]
    if -1 not in after:
        return tuple(after)
    rest = after.copy()
    rest.remove(-1)
    after[after.index(-1)] = _quotient(before, rest)
    return tuple(after)


def _quotient(dims: Dims, others: list[Size]) -> Size:
    """Return the product of sizes divided by that of others."""
    names = Counter(size for size in dims if not isinstance(size, int))
    others_names = Counter(size for size in others if not isinstance(size, int))
    above = math.prod(size for size in dims if isinstance(size, int))
    below = math.prod(size for size in others if isinstance(size, int))
    left = list((names - others_names).elements())
    if others_names - names or below < 1 or above % below or len(left) > 1 or (left and above != below):
        raise UnknownError
    return left[0] if left else above // below


def _transpose(walk: _Walk, node: ir.Node) -> Dims:
    dims = walk.dims(node)
    order = _attribute(node, "perm", range(len(dims))[::-1])
    if sorted(order) != list(range(len(dims))):
        raise UnknownError
    return tuple(dims[axis] for axis in order)


def _concat(walk: _Walk, node: ir.Node) -> Dims:
    shapes = [walk.dims(node, index) for index in range(len(node.inputs))]
    axis = _axis(node.attributes["axis"].value, len(shapes[0]))
    first = shapes[0]
    if any(shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :] for shape in shapes):
        raise UnknownError
    return (*first[:axis], sum(walk.numbers(tuple(shape[axis] for shape in shapes))), *first[axis + 1 :])


def _axes(walk: _Walk, node: ir.Node, rank: int) -> set[int] | None:
    entries = walk.list(node, 1)
    return None if entries is None else {_axis(axis, rank) for axis in walk.numbers(tuple(entries))}


def _unsqueeze(walk: _Walk, node: ir.Node) -> Dims:
    dims, entries = list(walk.dims(node)), walk.list(node, 1)
    if entries is None:
        raise UnknownError
    axes = {_axis(axis, len(dims) + len(entries)) for axis in walk.numbers(tuple(entries))}
    if len(axes) < len(entries):
        raise UnknownError
    for axis in sorted(axes):
        dims.insert(axis, 1)
    return tuple(dims)


def _squeeze(walk: _Walk, node: ir.Node) -> Dims:
    dims = walk.dims(node)
    axes = _axes(walk, node, len(dims))
    if axes is None or any(dims[axis] != 1 for axis in axes):
        raise UnknownError
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)


def _reduce(walk: _Walk, node: ir.Node) -> Dims:
    dims, keep = walk.dims(node), _attribute(node, "keepdims", 1)
    axes = _axes(walk, node, len(dims))
    if not axes:
        raise UnknownError
    kept = [1 if axis in axes else size for axis, size in enumerate(dims) if keep or axis not in axes]
    return tuple(kept)


def _gather(walk: _Walk, node: ir.Node) -> Dims:
    dims, indices = walk.dims(node), walk.dims(node, 1)
    axis = _axis(_attribute(node, "axis", 0), len(dims))
    return (*dims[:axis], *indices, *dims[axis + 1 :])


def _slice(walk: _Walk, node: ir.Node) -> Dims:
    dims = list(walk.dims(node))
    starts, ends, axes, steps = (walk.list(node, index) for index in range(1, 5))
    if starts is None or ends is None or len(starts) != len(ends):
        raise UnknownError
    steps = steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        axis = _axis(axis, len(dims))  # type: ignore[arg-type]
        if not step or not walk.numbers((start, end, step, dims[axis])):
            raise UnknownError
        dims[axis] = len(range(dims[axis])[start:end:step])  # type: ignore[arg-type, misc]
    return tuple(dims)


def _split(walk: _Walk, node: ir.Node) -> list[Dims]:
    dims, parts = walk.dims(node), walk.list(node, 1)
    axis, count = _axis(_attribute(node, "axis", 0), len(dims)), len(node.outputs)
    [size] = walk.numbers((dims[axis],))
    if parts is None:
        part = -(-size // count)
        parts = [part] * (count - 1) + [size - part * (count - 1)]
    if sum(walk.numbers(tuple(parts))) != size or len(parts) != count or min(parts) < 0:  # type: ignore[type-var, operator]
        raise UnknownError
    return [(*dims[:axis], part, *dims[axis + 1 :]) for part in parts]


def _shape(walk: _Walk, node: ir.Node) -> Dims:
    return (len(walk.dims(node)[slice(_attribute(node, "start", 0), _attribute(node, "end", None))]),)


Rule = Callable[[_Walk, ir.Node], Any]
_BOOLEAN = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"})
_SIZES = frozenset({ir.DataType.INT64, ir.DataType.INT32})
_UNARY = """Abs Cast Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LRN LayerNormalization
    LeakyRelu Log LogSoftmax Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt
    Dropout InstanceNormalization GroupNormalization Swish Tan Tanh""".split()  # noqa: SIM905 - as in `fold`
_BINARY = """Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Or Pow Sub Sum Where
    Xor""".split()  # noqa: SIM905
RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_BINARY, _broadcast),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), _reduce),
    "AveragePool": _pool,
    "BatchNormalization": _normalized,
    "Concat": _concat,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


# ---- entries of what holds sizes


def _sizes_of(walk: _Walk, node: ir.Node) -> Any:
    return list(walk.dims(node)[slice(_attribute(node, "start", 0), _attribute(node, "end", None))])


def _picked(walk: _Walk, node: ir.Node) -> Any:
    entries, index = walk.known(node.inputs[0]), walk.known(node.inputs[1])
    if not isinstance(entries, list) or index is None:
        return None
    return [entries[i] for i in index] if isinstance(index, list) else entries[index]  # type: ignore[index]


def _wrapped(walk: _Walk, node: ir.Node) -> Any:
    entries = walk.known(node.inputs[0])
    return None if entries is None else [entries]


def _unwrapped(walk: _Walk, node: ir.Node) -> Any:
    entries = walk.known(node.inputs[0])
    return entries[0] if isinstance(entries, list) and len(entries) == 1 else None


def _chained(walk: _Walk, node: ir.Node) -> Any:
    parts = [walk.known(value) for value in node.inputs]
    return [size for part in parts for size in part] if all(isinstance(part, list) for part in parts) else None  # type: ignore[union-attr]


def _cut(walk: _Walk, node: ir.Node) -> Any:
    entries = walk.known(node.inputs[0])
    [start], [end], *_ = (walk.list(node, index) or [0] for index in (1, 2))
    [step] = walk.list(node, 4) or [1]
    return entries[start:end:step] if isinstance(entries, list) else None  # type: ignore[misc]


def _kept(walk: _Walk, node: ir.Node) -> Any:
    return walk.known(node.inputs[0])


_FOLLOW: dict[str, Rule] = {
    "Shape": _sizes_of,
    "Gather": _picked,
    "Unsqueeze": _wrapped,
    "Squeeze": _unwrapped,
    "Concat": _chained,
    "Slice": _cut,
    "Identity": _kept,
}
