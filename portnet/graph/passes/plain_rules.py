"""The shapes of common ops' outputs, where sizes are numbers or pass through unchanged.

A rule takes the walk, which knows the inputs, and the node; it gives the sizes of the one output that is read, or a
list of those of all outputs. What is entered in `FOLLOW` also gives the entries of an output that holds sizes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from portnet.graph.passes.rewrite import python_attribute

if TYPE_CHECKING:
    from portnet.graph.passes.plain_shapes import PlainWalk

__all__ = ["BOOLEAN", "FOLLOW", "RULES", "SIZES", "Dims", "Size", "UnknownError"]

Size = int | str
Dims = tuple[Size, ...]


class UnknownError(Exception):
    """A rule cannot tell."""


def numbers(dims: Dims) -> tuple[int, ...]:
    """Return sizes all of which are numbers.

    Raises:
        UnknownError: one is not.
    """
    if not all(isinstance(size, int) for size in dims):
        raise UnknownError
    return dims  # type: ignore[return-value]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UnknownError
    return axis % rank


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


# ---- shapes, op by op


def _same(walk: PlainWalk, node: ir.Node) -> Dims:
    return walk.dims(node)


def _normalized(walk: PlainWalk, node: ir.Node) -> Dims:
    if _attribute(node, "training_mode", 0):
        raise UnknownError
    return walk.dims(node)


def _broadcast(walk: PlainWalk, node: ir.Node) -> Dims:
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


def _conv(walk: PlainWalk, node: ir.Node) -> Dims:
    (batch, _, *sizes), (outs, _, *kernel) = walk.dims(node), walk.dims(node, 1)
    return (batch, outs, *_windows(walk, node, sizes, kernel))


def _pool(walk: PlainWalk, node: ir.Node) -> Dims:
    batch, channels, *sizes = walk.dims(node)
    return (batch, channels, *_windows(walk, node, sizes, node.attributes["kernel_shape"].value))


def _windows(walk: PlainWalk, node: ir.Node, sizes: list[Size], kernel: Any) -> list[int]:
    count = len(numbers(tuple(sizes)))
    numbers(tuple(kernel))
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
        if room < 0:
            raise UnknownError
        steps = -(-room // stride) if ceil else room // stride
        # a window that would begin in the padding behind does not count
        found.append(steps + (not ceil or steps * stride < size + start))  # type: ignore[operator]
    return found


def _global_pool(walk: PlainWalk, node: ir.Node) -> Dims:
    batch, channels, *sizes = walk.dims(node)
    return (batch, channels, *(1 for _ in sizes))


def _matmul(walk: PlainWalk, node: ir.Node) -> Dims:
    a, b = walk.dims(node), walk.dims(node, 1)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise UnknownError
    return (*_joined(a[:-2], b[:-2]), a[-2], b[-1])


def _gemm(walk: PlainWalk, node: ir.Node) -> Dims:
    a, b = walk.dims(node), walk.dims(node, 1)
    rows, inner = reversed(a) if _attribute(node, "transA", 0) else a
    other, columns = reversed(b) if _attribute(node, "transB", 0) else b
    if inner != other:
        raise UnknownError
    return (rows, columns)


def _flatten(walk: PlainWalk, node: ir.Node) -> Dims:
    dims, axis = walk.dims(node), _attribute(node, "axis", 1)
    axis = axis if axis == len(dims) else _axis(axis, len(dims))
    return (_product(dims[:axis]), _product(dims[axis:]))


def _product(dims: Dims) -> Size:
    """Return a product of numbers, or a size that stands alone."""
    kept = [size for size in dims if size != 1]
    return kept[0] if len(kept) == 1 else math.prod(numbers(tuple(kept)))


def _reshape(walk: PlainWalk, node: ir.Node) -> Dims:
    before, after = walk.dims(node), walk.sizes(node, 1)
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


def _transpose(walk: PlainWalk, node: ir.Node) -> Dims:
    dims = walk.dims(node)
    order = _attribute(node, "perm", range(len(dims))[::-1])
    if sorted(order) != list(range(len(dims))):
        raise UnknownError
    return tuple(dims[axis] for axis in order)


def _concat(walk: PlainWalk, node: ir.Node) -> Dims:
    shapes = [walk.dims(node, index) for index in range(len(node.inputs))]
    axis = _axis(node.attributes["axis"].value, len(shapes[0]))
    first = shapes[0]
    if any(shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :] for shape in shapes):
        raise UnknownError
    return (*first[:axis], sum(numbers(tuple(shape[axis] for shape in shapes))), *first[axis + 1 :])


def _axes(walk: PlainWalk, node: ir.Node, rank: int) -> set[int] | None:
    entries = walk.sizes(node, 1)
    return None if entries is None else {_axis(axis, rank) for axis in numbers(tuple(entries))}


def _unsqueeze(walk: PlainWalk, node: ir.Node) -> Dims:
    dims, entries = list(walk.dims(node)), walk.sizes(node, 1)
    if entries is None:
        raise UnknownError
    axes = {_axis(axis, len(dims) + len(entries)) for axis in numbers(tuple(entries))}
    if len(axes) < len(entries):
        raise UnknownError
    for axis in sorted(axes):
        dims.insert(axis, 1)
    return tuple(dims)


def _squeeze(walk: PlainWalk, node: ir.Node) -> Dims:
    dims = walk.dims(node)
    axes = _axes(walk, node, len(dims))
    if axes is None or any(dims[axis] != 1 for axis in axes):
        raise UnknownError
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)


def _reduce(walk: PlainWalk, node: ir.Node) -> Dims:
    dims, keep = walk.dims(node), _attribute(node, "keepdims", 1)
    axes = _axes(walk, node, len(dims))
    if not axes:
        raise UnknownError
    kept = [1 if axis in axes else size for axis, size in enumerate(dims) if keep or axis not in axes]
    return tuple(kept)


def _gather(walk: PlainWalk, node: ir.Node) -> Dims:
    dims, indices = walk.dims(node), walk.dims(node, 1)
    axis = _axis(_attribute(node, "axis", 0), len(dims))
    return (*dims[:axis], *indices, *dims[axis + 1 :])


def _slice(walk: PlainWalk, node: ir.Node) -> Dims:
    dims = list(walk.dims(node))
    starts, ends, axes, steps = (walk.sizes(node, index) for index in range(1, 5))
    if starts is None or ends is None or len(starts) != len(ends):
        raise UnknownError
    cuts = zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True)
    for start, end, axis, step in (numbers(cut) for cut in cuts):
        place = _axis(axis, len(dims))
        [size] = numbers((dims[place],))
        dims[place] = len(range(size)[start:end:step])
    return tuple(dims)


def _split(walk: PlainWalk, node: ir.Node) -> list[Dims]:
    dims, given = walk.dims(node), walk.sizes(node, 1)
    axis, count = _axis(_attribute(node, "axis", 0), len(dims)), len(node.outputs)
    [size] = numbers((dims[axis],))
    part = -(-size // count)
    even = [part] * (count - 1) + [size - part * (count - 1)]
    parts = numbers(tuple(even if given is None else given))
    if sum(parts) != size or len(parts) != count or min(parts) < 0:
        raise UnknownError
    return [(*dims[:axis], part, *dims[axis + 1 :]) for part in parts]


def _shape(walk: PlainWalk, node: ir.Node) -> Dims:
    return (len(walk.dims(node)[slice(_attribute(node, "start", 0), _attribute(node, "end", None))]),)


Rule = Callable[["PlainWalk", ir.Node], Any]
BOOLEAN = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"})
SIZES = frozenset({ir.DataType.INT64, ir.DataType.INT32})
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


def _sizes_of(walk: PlainWalk, node: ir.Node) -> Any:
    return list(walk.dims(node)[slice(_attribute(node, "start", 0), _attribute(node, "end", None))])


def _picked(walk: PlainWalk, node: ir.Node) -> Any:
    entries, index = walk.known(node.inputs[0]), walk.known(node.inputs[1])
    if not isinstance(entries, list) or index is None:
        return None
    return [entries[i] for i in index] if isinstance(index, list) else entries[index]  # type: ignore[index]


def _wrapped(walk: PlainWalk, node: ir.Node) -> Any:
    entries = walk.known(node.inputs[0])
    return None if entries is None else [entries]


def _unwrapped(walk: PlainWalk, node: ir.Node) -> Any:
    entries = walk.known(node.inputs[0])
    return entries[0] if isinstance(entries, list) and len(entries) == 1 else None


def _chained(walk: PlainWalk, node: ir.Node) -> Any:
    parts = [walk.known(value) for value in node.inputs]
    return [size for part in parts for size in part] if all(isinstance(part, list) for part in parts) else None  # type: ignore[union-attr]


def _cut(walk: PlainWalk, node: ir.Node) -> Any:
    entries, [start], [end] = walk.known(node.inputs[0]), walk.sizes(node, 1) or [], walk.sizes(node, 2) or []
    [step] = walk.sizes(node, 4) or [1]
    start, end, step = numbers((start, end, step))
    return entries[start:end:step] if isinstance(entries, list) else None


def _kept(walk: PlainWalk, node: ir.Node) -> Any:
    return walk.known(node.inputs[0])


FOLLOW: dict[str, Rule] = {
    "Shape": _sizes_of,
    "Gather": _picked,
    "Unsqueeze": _wrapped,
    "Squeeze": _unwrapped,
    "Concat": _chained,
    "Slice": _cut,
    "Identity": _kept,
}
