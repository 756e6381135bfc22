"""Where a mask comes from, and recurrent layers that leave steps out."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.operands import binary, operator
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.walk import Walk

__all__ = ["Counted", "mean_over_steps"]


@operator("NotEqual", "math.not_equal", "not_equal")
def not_equal(walk: Walk, node: LayerNode) -> Held:
    """Where two tensors, or a tensor and numbers, differ."""
    return walk.same("Not", binary("Equal")(walk, node))


@operator("Any", "math.reduce_any", "reduce_any")
def any_of(walk: Walk, node: LayerNode) -> Held:
    """Whether one entry along an axis is true."""
    x, axis = node.argument(0, "x", "input_tensor"), node.argument(1, "axis")
    if not isinstance(x, Held) or not isinstance(axis, int) or node.argument(2, "keepdims", default=False):
        raise UnsupportedError("an axis that is not one number")
    return _any(walk, walk.plain(x), axis)


@operator("ZerosLike", "zeros_like")
def zeros_like(walk: Walk, node: LayerNode) -> Held:
    """Zeros, or truths of none, of a tensor's shape."""
    return _none_of(walk, node)


@operator("OnesLike", "ones_like")
def ones_like(walk: Walk, node: LayerNode) -> Held:
    """Ones, or truths of all, of a tensor's shape."""
    return walk.same("Not", _none_of(walk, node))


def _none_of(walk: Walk, node: LayerNode) -> Held:
    x = node.argument(0, "x")
    if not isinstance(x, Held) or node.argument(1, "dtype", default=None) != "bool":
        raise UnsupportedError("an element type that is not bool")
    size = walk.same("Abs", walk.same("Cast", x, to=ir.DataType.FLOAT.value, what="float"))
    return walk.same("Less", size, walk.number(0.0, "zero"))  # never, not even of NaN


def _any(walk: Walk, x: Held, axis: int) -> Held:
    number = walk.same("Cast", x, to=ir.DataType.INT32.value)
    axes = walk.ints([x.positive(axis)], "axes")
    most = walk.emit("ReduceMax", [number.value, axes], identity(x.rank - 1), keepdims=0)
    return walk.same("Cast", most, to=ir.DataType.BOOL.value)


@layer("Masking")
def masking(walk: Walk, node: LayerNode) -> Held:
    """Steps of one number alone do not count, and become zeros."""
    x = walk.plain(node.input)
    number = walk.number(node.options.number("mask_value", 0.0), "mask_value")
    kept = _any(walk, walk.same("Not", walk.same("Equal", x, number)), -1)
    column = walk.emit("Unsqueeze", [kept.value, walk.ints([-1], "last")], identity(kept.rank + 1))
    factor = walk.same("Cast", column, to=ir.DataType.FLOAT.value)
    result = walk.same("Mul", x, factor.value)
    walk.masks[result.value] = lambda: kept
    return result


def mean_over_steps(walk: Walk, x: Held, mask: Held) -> Held:
    """Return the mean (batch, features) over the steps that count; none of them gives NaN, as in Keras."""
    x = walk.plain(x)
    column = walk.emit("Unsqueeze", [mask.value, walk.ints([2], "last")], identity(3), "column")
    factor = walk.same("Cast", column, to=ir.DataType.FLOAT.value)
    axes = walk.ints([1], "axes")
    total = walk.emit("ReduceSum", [walk.same("Mul", x, factor.value).value, axes], identity(2), "total", keepdims=0)
    count = walk.emit("ReduceSum", [factor.value, axes], identity(2), "count", keepdims=0)
    return walk.same("Div", total, count.value)


class Counted:
    """The steps of a sequence that count, moved to its front for ONNX's recurrent ops, which know lengths and no masks.

    A step that does not count changes no state, so that leaving it out is exact, wherever it stands.

    Args:
        walk: the walk.
        mask: (batch, steps) of truths.

    Attributes:
        lengths: how many steps of each sequence count, (batch,) int32.
    """

    def __init__(self, walk: Walk, mask: Held) -> None:
        self.walk = walk
        self._mask = walk.arranged(mask, (1, 0))
        self._number = walk.same("Cast", self._mask, to=ir.DataType.INT64.value, what="mask/int64")
        self._so_far = walk.same("CumSum", self._number, walk.ints(0, "steps_axis"), what="mask/so_far")
        total = walk.emit("ReduceSum", [self._number.value, walk.ints([0], "steps_axes")], identity(1), keepdims=0)
        self.lengths = walk.same("Cast", total, to=ir.DataType.INT32.value, what="mask/lengths").value

    def front(self, x: Held) -> Held:
        """Return a sequence, its axes laid (steps, batch, features), with what counts in front."""
        walk = self.walk
        shape = walk.emit("Shape", [self._mask.value], identity(1), "mask/shape")
        steps = walk.emit("Slice", [shape.value, *self._ends(walk)], identity(1), "mask/steps")
        # the place of each step, those that do not count behind all others: distinct, so that sorting is exact
        one = walk.ints(1, "one")
        ones = walk.emit("Expand", [one, shape.value], (1, 0), "mask/ones")
        place = walk.same("CumSum", ones, walk.ints(0, "steps_axis"), what="mask/place")
        late = walk.emit("Sub", [one, self._number.value], (1, 0), "mask/late")
        key = walk.same("Add", place, walk.same("Mul", late, steps.value, what="mask/behind").value, what="mask/key")
        wide = walk.same("Cast", key, to=ir.DataType.FLOAT.value, what="mask/order")
        _, order = walk.writer.nodes(
            "TopK", [wide.value, steps.value], f"{walk.here}/mask/sorted", count=2, axis=0, largest=0, sorted=1
        )
        front = walk.same("GatherElements", x, self._wide(order, x.value, 2), axis=0)
        front.value.shape = x.value.shape
        return front

    def back(self, y: ir.Value, directions: list[bool], *, zeros: bool) -> ir.Value:
        """Return the outputs (steps, ways, batch, units) of a run over the front at the places of all steps.

        A step that does not count repeats what was before it, or after it in a way backwards; zeros where there is
        nothing.

        Args:
            y: what the op gave.
            directions: for each way, whether it runs backwards.
            zeros: whether steps that do not count are zeros instead.
        """
        walk, axes = self.walk, self.walk.ints([1], "ways")
        one = walk.ints(1, "one")
        before = walk.same("Sub", self._so_far, one, what="mask/before")
        first = walk.same("Max", before, walk.ints(0, "zero"), what="mask/last_place")
        following = walk.same("Sub", self._so_far, self._number.value, what="mask/next_place")
        places = [(following if backwards else first).value for backwards in directions]
        longer = [walk.writer.node("Unsqueeze", [place, axes], f"{walk.here}/mask/way") for place in places]
        place = longer[0] if len(longer) == 1 else walk.writer.node("Concat", longer, f"{walk.here}/mask/ways", axis=1)
        gathered = walk.writer.node("GatherElements", [y, self._wide(place, y, 3)], f"{walk.here}/spread", axis=0)
        gathered.shape = y.shape
        if not zeros and all(directions):
            return gathered  # behind the last step that counts, the op gives zeros itself
        seen = walk.same("Greater", self._so_far, walk.ints(0, "zero"), what="mask/seen")
        always = walk.same("GreaterOrEqual", self._so_far, walk.ints(0, "zero"), what="mask/always")
        told = [self._mask.value if zeros else (always if backwards else seen).value for backwards in directions]
        truths = [walk.writer.node("Unsqueeze", [each, axes], f"{walk.here}/mask/told") for each in told]
        truth = truths[0] if len(truths) == 1 else walk.writer.node("Concat", truths, f"{walk.here}/mask/all", axis=1)
        wide = walk.writer.node("Unsqueeze", [truth, walk.ints([3], "units")], f"{walk.here}/mask/units")
        kept = walk.writer.node("Where", [wide, gathered, walk.number(0.0, "nothing")], f"{walk.here}/kept")
        kept.shape = y.shape
        return kept

    def _wide(self, place: ir.Value, like: ir.Value, axis: int) -> ir.Value:
        walk = self.walk
        column = walk.writer.node("Unsqueeze", [place, walk.ints([axis], "features")], f"{walk.here}/mask/column")
        shape = walk.writer.node("Shape", [like], f"{walk.here}/mask/like")
        index = walk.writer.node("Expand", [column, shape], f"{walk.here}/mask/index")
        index.shape = like.shape
        return index

    @staticmethod
    def _ends(walk: Walk) -> list[ir.Value]:
        return [walk.ints([0], "start"), walk.ints([1], "end")]
