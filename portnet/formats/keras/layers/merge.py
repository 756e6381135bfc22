"""Layers of several inputs that are no concatenation."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.masks import Mask, mask_of
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_PAIRWISE = {"Add": "Add", "Multiply": "Mul", "Maximum": "Max", "Minimum": "Min"}


@layer(*_PAIRWISE)
def pairwise(walk: Walk, node: LayerNode) -> Held:
    """Two tensors or more, one by one; the largest and the smallest are of what counts."""
    masks = [None if walk.keras2 else mask_of(walk, x) for x in node.inputs]
    if node.kind in ("Maximum", "Minimum") and any(mask is not None for mask in masks):
        return _of_what_counts(walk, _PAIRWISE[node.kind], [walk.plain(x) for x in node.inputs], masks)
    return _folded(walk, _PAIRWISE[node.kind], walk.aligned(node.inputs))


@layer("Subtract")
def subtract(walk: Walk, node: LayerNode) -> Held:
    """The first less the second."""
    first, second = _two(node)
    first, second = walk.aligned([first, second])
    return walk.same("Sub", first, second.value)


@layer("Average")
def average(walk: Walk, node: LayerNode) -> Held:
    """Mean of the inputs."""
    tensors = walk.aligned(node.inputs)
    total = _folded(walk, "Add", tensors)
    return walk.same("Mul", total, walk.number(1 / len(tensors), "share"))


def _of_what_counts(walk: Walk, op: str, tensors: list[Held], masks: list[Mask | None]) -> Held:
    """Let a step that does not count in one input be the other's, as Keras 3 does it."""
    columns: list[ir.Value | None] = []
    for x, mask in zip(tensors, masks, strict=True):
        axes = [] if mask is None else list(range(2, x.rank))
        columns.append(
            None
            if mask is None
            else walk.emit("Unsqueeze", [walk.plain(mask()).value, walk.ints(axes, "axes")], identity(x.rank)).value
        )
    total, told = tensors[0], columns[0]
    for x, column in zip(tensors[1:], columns[1:], strict=True):
        order = identity(total.rank)
        other = x if column is None else walk.emit("Where", [column, x.value, total.value], order, "counts")
        first = total if told is None else walk.emit("Where", [told, total.value, other.value], order, "counts")
        told = None if column is None or told is None else walk.emit("Or", [told, column], order, "mask").value
        total = walk.same(op, first, other.value)
    return total


def _folded(walk: Walk, op: str, tensors: list[Held]) -> Held:
    if len(tensors) == 1:
        return tensors[0]
    total = tensors[0]
    for x in tensors[1:]:
        total = walk.same(op, total, x.value)
    return total


@layer("Dot")
def dot(walk: Walk, node: LayerNode) -> Held:
    """Products summed over one axis of each, as Keras's ``batch_dot`` has them for two and three axes."""
    first, second = (walk.plain(x) for x in _two(node))
    axes = node.options.axes("axes", -1)
    a, b = (axes * 2)[:2] if len(axes) == 1 else axes
    a, b = first.positive(a), second.positive(b)
    if not {first.rank, second.rank} <= {2, 3} or 0 in (a, b):
        raise UnsupportedError(f"axes={axes} of {first.rank} and {second.rank} axes")
    if node.options.flag("normalize"):
        first, second = _unit(walk, first, a), _unit(walk, second, b)
    if first.rank == second.rank == 2:
        product = walk.same("Mul", first, second.value)
        return walk.emit("ReduceSum", [product.value, walk.ints([1], "axes")], identity(2), keepdims=1)
    left = walk.arranged(first, (0, 3 - a, a)) if first.rank == 3 else _longer(walk, first, 1)
    right = walk.arranged(second, (0, b, 3 - b)) if second.rank == 3 else _longer(walk, second, 2)
    product = walk.emit("MatMul", [left.value, right.value], identity(3))
    gone = [1] if first.rank == 2 else [2] if second.rank == 2 else []
    return walk.emit("Squeeze", [product.value, walk.ints(gone, "axes")]) if gone else product


def _longer(walk: Walk, x: Held, axis: int) -> Held:
    return walk.emit("Unsqueeze", [x.value, walk.ints([axis], "axes")])


def _unit(walk: Walk, x: Held, axis: int) -> Held:
    square = walk.same("Mul", x, x.value, what="square")
    total = walk.emit("ReduceSum", [square.value, walk.ints([axis], "axes")], x.order, keepdims=1)
    length = walk.same("Sqrt", walk.same("Max", total, walk.number(1e-12, "smallest")))
    return walk.same("Div", x, length.value)


@layer("CustomScaleLayer")
def custom_scale(walk: Walk, node: LayerNode) -> Held:
    """The first and ``scale`` times the second, as InceptionResNetV2 of keras.applications adds its residuals."""
    first, second = walk.aligned(list(_two(node)))
    scaled = walk.same("Mul", second, walk.number(node.options.number("scale"), "scale"))
    return walk.same("Add", first, scaled.value)


def _two(node: LayerNode) -> tuple[Held, Held]:
    if len(node.inputs) != 2:
        raise UnsupportedError(f"{len(node.inputs)} inputs")
    return node.inputs[0], node.inputs[1]
