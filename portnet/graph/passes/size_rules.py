"""How sizes follow from sizes, op by op, where the standard's inference knows numbers alone."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import sympy

from portnet.graph.floors import floor_of
from portnet.graph.host import HostValue
from portnet.graph.lowering import NodeView
from portnet.graph.ranges import bounds
from portnet.graph.sizes import MADE

if TYPE_CHECKING:
    from portnet.graph.passes.sizes import SizeWalk

__all__ = ["RULES", "UnknownSizeError"]

Size = Any  # an int, or a sympy expression where it is free
Rule = Callable[[NodeView, "SizeWalk"], list[list[Size]]]

RULES: dict[str, Rule] = {}
# an end so far out means the end
_FAR = 1 << 30
# fractions of more symbols take long to reduce
_MAX_SYMBOLS = 12
# constants of more entries are no shapes
_MAX_ENTRIES = 64


class UnknownSizeError(Exception):
    """A rule cannot tell."""


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _product(sizes: Iterable[Size]) -> Size:
    return functools.reduce(operator.mul, sizes, 1)


def _opaque(expression: Size) -> Size:
    """Return a size that later arithmetic takes as it is: a window's floors would only grow."""
    if isinstance(expression, int) or (isinstance(expression, sympy.Expr) and expression.is_Integer):
        return int(expression)
    inner = str(expression).replace(MADE, "")
    return sympy.Symbol(f"{MADE}({inner})", integer=True, positive=True)


@_rule(
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
def _broadcast(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    return [_broadcast_sizes([walk.sizes(value) for value in node.inputs], walk)]


def _broadcast_sizes(shapes: list[list[Size]], walk: SizeWalk) -> list[Size]:
    rank = max(map(len, shapes))
    padded = [[1] * (rank - len(shape)) + shape for shape in shapes]
    return [_common([n for n in column if n != 1], walk) for column in zip(*padded, strict=True)]


def _common(sizes: list[Size], walk: SizeWalk) -> Size:
    """Return what sizes broadcast to; one that is free beside a number can only be 1 or that number."""
    number = next((n for n in sizes if isinstance(n, int)), None)
    if number is not None:
        return number
    # a size that is cut to another one at most can only be that one, beside it
    sizes = [n for n in sizes if walk.limits.get(n) not in sizes]
    return None if any(n != sizes[0] for n in sizes) else sizes[0] if sizes else 1


@_rule("Conv", "MaxPool", "AveragePool", "LpPool", "ConvInteger", "QLinearConv")
def _window(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    weight = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}.get(node.op)
    n, c, *sizes = walk.sizes(node.required(0))
    kernel = node.get("kernel_shape")
    if weight is not None:
        c, _, *from_weight = walk.sizes(node.required(weight))
        kernel = kernel or from_weight
    count = len(kernel)
    strides, dilations = node.get("strides") or [1] * count, node.get("dilations") or [1] * count
    pads = node.get("pads") or [0] * (2 * count)
    mode = node.get("auto_pad", "NOTSET")
    shape = [n, c]
    for i, size in enumerate(sizes):
        reach = (kernel[i] - 1) * dilations[i]
        total = pads[i] + pads[i + count] if mode == "NOTSET" else 0
        count_of = _windows(size, reach, total, strides[i], mode, node.get("ceil_mode", 0))
        shape.append(_named_floor(count_of, walk))
    return [shape] * len(node.outputs)


def _windows(size: Size, reach: int, padding: int, stride: int, mode: str, ceil: int) -> Size:
    if mode.startswith("SAME"):
        return size if stride == 1 else floor_of(sympy.sympify(size + stride - 1) / stride)
    left = size + padding - reach - 1
    if stride == 1:
        return left + 1
    if ceil:
        return _opaque(sympy.Symbol(f"pooled {size} +{padding} -{reach} /{stride}"))
    return floor_of(sympy.sympify(left) / stride) + 1


def _named_floor(size: Size, walk: SizeWalk) -> Size:
    if isinstance(size, int) or not size.has(sympy.floor):
        return size
    named = walk.floors.symbol_of(size)
    return _opaque(size) if named is None else named


@_rule("ConvTranspose")
def _transposed(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    n, _, *sizes = walk.sizes(node.required(0))
    _, per_group, *kernel = walk.sizes(node.required(1))
    count, mode = len(sizes), node.get("auto_pad", "NOTSET")
    strides, dilations = node.get("strides") or [1] * count, node.get("dilations") or [1] * count
    pads, extra = node.get("pads") or [0] * (2 * count), node.get("output_padding") or [0] * count
    if node.get("output_shape") or mode not in ("NOTSET", "VALID"):
        raise UnknownSizeError
    shape = [n, per_group * node["group"]]
    for i, size in enumerate(sizes):
        cut = 0 if mode == "VALID" else pads[i] + pads[i + count]
        shape.append(strides[i] * (size - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - cut)
    return [shape]


@_rule("Flatten")
def _flatten(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    sizes = walk.sizes(node.required(0))
    axis = node["axis"] + len(sizes) * (node["axis"] < 0)
    return [[_product(sizes[:axis]), _product(sizes[axis:])]]


@_rule("Reshape")
def _reshape(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    before, after = walk.sizes(node.required(0)), walk.entries(node.input(1))
    if not node.get("allowzero", 0):
        after = [before[axis] if size == 0 else size for axis, size in enumerate(after)]
    if -1 in after:
        if len(sympy.Tuple(*before, *after).free_symbols) > _MAX_SYMBOLS:
            raise UnknownSizeError
        rest = sympy.cancel(sympy.sympify(_product(before)) / _product(n for n in after if n != -1))
        if not _is_whole(rest):
            raise UnknownSizeError
        after = [rest if size == -1 else size for size in after]
    return [after]


def _is_whole(size: Any) -> bool:
    return sympy.denom(size) == 1 and not size.has(sympy.zoo, sympy.nan)


@_rule("Expand")
def _expand(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    return [_broadcast_sizes([walk.sizes(node.required(0)), walk.entries(node.input(1))], walk)]


@_rule("ConstantOfShape")
def _constant_of_shape(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    return [walk.entries(node.input(0))]


@_rule("Tile")
def _tile(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    return [[n * count for n, count in zip(walk.sizes(node.required(0)), walk.entries(node.input(1)), strict=True)]]


@_rule("Slice")
def _slice(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    sizes = walk.sizes(node.required(0))
    starts, ends = walk.entries(node.input(1)), walk.entries(node.input(2))
    axes = list(range(len(starts))) if node.input(3) is None else walk.entries(node.input(3))
    steps = [1] * len(starts) if node.input(4) is None else walk.entries(node.input(4))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        whole, sizes[axis] = sizes[axis], _cut(walk, sizes[axis], start, end, step)
        if isinstance(whole, int) and start == 0 and step == 1 and isinstance(end, sympy.Symbol):
            walk.limits[sizes[axis]] = end
    return [sizes]


def _cut(walk: SizeWalk, size: Size, start: Size, end: Size, step: Size) -> Size:
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(size)[start:end:step])
    if step == -1 and start == -1 and isinstance(end, int) and end < -_FAR:
        return size
    if step != 1:
        return _opaque(sympy.Symbol(f"{size}[{start}:{end}:{step}]"))
    if start == 0 and (end == size or (isinstance(end, int) and end > _FAR)):
        return size
    if isinstance(start, int) and start >= 0 and isinstance(end, int) and (end > _FAR or (start == 0 and end < 0)):
        cut = start if end > _FAR else -end
        # of a size that may be smaller nothing is left
        return size - cut if (size - cut).is_positive else _opaque(sympy.Symbol(f"{size} but {cut}"))
    places = [0, start, end, size]
    if all(bounds(walk.floors.expanded(sympy.sympify(b) - a))[0] >= 0 for a, b in itertools.pairwise(places)):
        return end - start
    return _opaque(sympy.Symbol(f"{size}[{start}:{end}]"))


@_rule("Pad")
def _pad(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    sizes, pads = walk.sizes(node.required(0)), walk.entries(node.input(1))
    axes = list(range(len(sizes))) if node.input(3) is None else walk.entries(node.input(3))
    for i, axis in enumerate(axes):
        sizes[axis] = sizes[axis] + pads[i] + pads[i + len(axes)]
    return [sizes]


@_rule("Concat")
def _concat(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    shapes = [walk.sizes(value) for value in node.inputs]
    axis = node["axis"] % len(shapes[0])
    joined = [_common([shape[i] for shape in shapes], walk) for i in range(len(shapes[0]))]
    joined[axis] = sum(shape[axis] for shape in shapes)
    return [joined]


@_rule("Split")
def _split(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    sizes, count = walk.sizes(node.required(0)), len(node.outputs)
    axis = node["axis"] % len(sizes)
    if node.input(1) is not None:
        parts = walk.entries(node.input(1))
    elif isinstance(sizes[axis], int):
        part = -(-sizes[axis] // count)
        parts = [part] * (count - 1) + [sizes[axis] - part * (count - 1)]
    else:
        raise UnknownSizeError
    return [[*sizes[:axis], part, *sizes[axis + 1 :]] for part in parts]


@_rule("Resize")
def _resize(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    sizes = walk.sizes(node.required(0))
    axes = node.get("axes") or list(range(len(sizes)))
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch" or node["coordinate_transformation_mode"] == (
        "tf_crop_and_resize"
    ):
        raise UnknownSizeError
    if node.input(3) is not None:
        for axis, size in zip(axes, walk.entries(node.input(3)), strict=True):
            sizes[axis] = size
        return [sizes]
    for axis, scale in zip(axes, walk.entries(node.input(2)), strict=True):
        if isinstance(sizes[axis], int):
            sizes[axis] = math.floor(sizes[axis] * scale)
        elif float(scale).is_integer():
            sizes[axis] = sizes[axis] * int(scale)
        else:
            sizes[axis] = _opaque(sympy.Symbol(f"floor({sizes[axis]}*{scale})"))
    return [sizes]


@_rule("DepthToSpace")
def _depth_to_space(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    (n, c, h, w), block = walk.sizes(node.required(0)), node["blocksize"]
    return [[n, c // block**2 if isinstance(c, int) else None, h * block, w * block]]


@_rule("TopK")
def _top_k(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    sizes, [count] = walk.sizes(node.required(0)), walk.entries(node.input(1))
    sizes[node["axis"]] = count
    return [sizes, sizes]


@_rule("If")
def _if(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    branches = [node["then_branch"].outputs, node["else_branch"].outputs]
    shapes = []
    for a, b in zip(*branches, strict=True):
        first, second = walk.sizes(a), walk.sizes(b)
        if len(first) != len(second):
            raise UnknownSizeError
        shapes.append([m if m == n else None for m, n in zip(first, second, strict=True)])
    return shapes


@_rule("Scan")
def _scan(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    body, count = node["body"], node["num_scan_inputs"]
    first, states = node.inputs[-count], [walk.sizes(state) for state in node.inputs[:-count]]
    steps = walk.sizes(first)[(node.get("scan_input_axes") or [0])[0]]
    shapes = [*states]  # a state keeps its shape from step to step
    axes = node.get("scan_output_axes") or [0] * len(body.outputs)
    for output, axis in zip(body.outputs[len(states) :], axes, strict=False):
        shape = _entry_sizes(output, body.outputs[: len(states)], states)
        axis += (len(shape) + 1) * (axis < 0)
        shapes.append([*shape[:axis], steps, *shape[axis:]])
    return shapes


def _entry_sizes(output: ir.Value, states: Sequence[ir.Value], shapes: list[list[Size]]) -> list[Size]:
    """Return the sizes of what one step puts out: those of a state that it is, or else its numbers."""
    for state, shape in zip(states, shapes, strict=True):
        if _origin(state) is _origin(output):
            return shape
    if output.shape is None:
        raise UnknownSizeError
    return [size if isinstance(size, int) else None for size in output.shape]


def _origin(value: ir.Value) -> ir.Value:
    while (node := value.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


@_rule("Range")
def _range(node: NodeView, walk: SizeWalk) -> list[list[Size]]:
    [start], [limit], [delta] = (walk.entries(value) for value in node.inputs)
    if start != 0 or delta != 1 or isinstance(limit, float):
        raise UnknownSizeError
    return [[limit]]


def constant(value: ir.Value) -> HostValue | None:
    """Return a small constant that may take part in shape arithmetic, or None."""
    tensor = value.const_value if value.is_initializer() else None
    if tensor is None or tensor.size > _MAX_ENTRIES or tensor.dtype == ir.DataType.STRING:
        return None
    array = tensor.numpy()
    return HostValue(array) if array.dtype.kind in "iufb" else None
