"""`skeleton`: a graph's nodes, one after the other, become `Step`s."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.weights.skeleton import Facts, Sizes, Skeleton, Slot, Step

__all__ = ["skeleton"]

_PASSING = frozenset({"Identity", "Dropout"})
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
# ops whose results are never below 0, so that zeros around them do not change a maximum
_NOT_NEGATIVE = frozenset({"Relu", "Clip", "Sigmoid", "MaxPool"})
_TRANSPOSED, _ROWS = "transposed", "transposed, rows in the order of (C, H, W)"


def skeleton(model: Model, *, sized: bool = True) -> Skeleton:
    """Return a network's skeleton.

    Args:
        model: any network; it is brought to canonical form first and not changed.
        sized: whether height and width count as known. Two skeletons that are compared must both know them, or neither.

    Raises:
        PortNetError: see `portnet.graph.canonical`.
    """
    return _Walk(model.canonical(), sized).run()


class _Walk:
    """Turns the nodes of one canonical graph into steps."""

    def __init__(self, model: Model, sized: bool) -> None:
        self.graph, self.sized = model.ir.graph, sized
        self.opset = model.opset
        self.roles = model.roles
        self.steps: dict[ir.Value, Step] = {}

    def run(self) -> Skeleton:
        for value in self.graph.inputs:
            sizes = self.sizes(value)
            channels = sizes[:1] if sizes else None
            self.steps[value] = Step("Input", value.name or "", (("channels", channels),), sizes=sizes)
        for index, node in enumerate(self.graph):
            view = NodeView(node, self.opset, index)
            rule = _RULES.get(view.op)
            step = (rule(self, view) if rule else None) or self.other(view)
            self.steps[node.outputs[0]] = step
            for place, output in enumerate(node.outputs[1:], start=1):
                self.steps[output] = Step(f"{view.op} output {place}", step.name, (), (step,), sizes=self.sizes(output))
        named = {value.name: step for value, step in self.steps.items() if value.name}
        return Skeleton(tuple(self.step(value) for value in self.graph.outputs), named)

    # ---- what nodes read

    def step(self, value: ir.Value | None) -> Step:
        """Return the step that yields a tensor; an initializer that is no parameter is one of its own."""
        assert value is not None
        if value not in self.steps:
            self.steps[value] = Step("Constant", value.name or "", (("value", _number(self.constant(value))),))
        return self.steps[value]

    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """Return an initializer's array, or None for what is computed."""
        if value is None or value.name not in self.graph.initializers or value.const_value is None:
            return None
        return value.const_value.numpy()

    def slot(self, value: ir.Value | None) -> Slot | None:
        """Return the slot of an initializer, or None for what is computed."""
        tensor = None if value is None or value.name not in self.graph.initializers else value.const_value
        return None if value is None or tensor is None else Slot(value.name or "", tuple(tensor.shape.numpy()))

    def sizes(self, value: ir.Value) -> Sizes | None:
        if value.shape is None:
            return None
        sizes = tuple(size if isinstance(size, int) else None for size in value.shape[1:])
        return sizes if self.sized else (*sizes[:1], *(size if size == 1 else None for size in sizes[1:]))

    def other(self, view: NodeView) -> Step:
        """Return a step of an op that has no rule: its attributes, arrays and inputs as they are."""
        facts: list[tuple[str, Hashable]] = [(key, _plain(view.attributes[key])) for key in sorted(view.attributes)]
        inputs, slots = [], {}
        for place, value in enumerate(view.inputs):
            if value is None:
                facts.append((f"input {place}", "absent"))
            elif self.roles.get(value.name or "", Role.CONSTANT) is not Role.CONSTANT:
                slots[f"input {place}"] = _known(self.slot(value))
            else:
                inputs.append(self.step(value))
        sizes = self.sizes(view.outputs[0])
        return Step(view.op, view.name, tuple(facts), tuple(inputs), slots, sizes)


# ---- layers with arrays


def _convolution(walk: _Walk, view: NodeView) -> Step | None:
    kernel = walk.slot(view.inputs[1])
    if kernel is None:
        return None
    x, rank = walk.step(view.inputs[0]), len(kernel.shape) - 2
    pads = list(view.get("pads") or [0] * 2 * rank)
    if x.op == "Pad" and len(_fact(x, "pads")) == len(pads):
        pads = [a + b for a, b in zip(pads, _fact(x, "pads"), strict=True)]
        x = x.inputs[0]
    slots = _with_bias({"weight": kernel}, walk.slot(view.input(2)))
    sizes = walk.sizes(view.outputs[0])
    if x.is_vector and kernel.shape[2:] == (1,) * rank and view["group"] == 1 and not any(pads):
        shape = kernel.shape[:2]
        slots["weight"] = replace(kernel, shape=shape, layout=lambda array: array.reshape(shape))
        return Step("Dense", view.name, (), (x,), slots, sizes)
    facts: Facts = (
        ("kernel", kernel.shape[2:]),
        ("strides", tuple(view.get("strides") or (1,) * rank)),
        ("pads", tuple(pads)),
        ("dilations", tuple(view.get("dilations") or (1,) * rank)),
        ("groups", view["group"]),
        ("auto_pad", view.get("auto_pad", "NOTSET")),
    )
    return Step("Conv", view.name, facts, (x,), slots, sizes)


def _gemm(walk: _Walk, view: NodeView) -> Step | None:
    kernel, bias = walk.slot(view.inputs[1]), walk.slot(view.input(2))
    is_plain = view["alpha"] == 1 and view["transA"] == 0 and (view["beta"] == 1 or bias is None)
    if kernel is None or not is_plain or (bias is None and view.input(2) is not None):
        return None
    return _dense(walk, view, kernel, bool(view["transB"]), bias)


def _matmul(walk: _Walk, view: NodeView) -> Step | None:
    kernel = walk.slot(view.inputs[1])
    return None if kernel is None or len(kernel.shape) != 2 else _dense(walk, view, kernel, False, None)


def _dense(walk: _Walk, view: NodeView, kernel: Slot, is_transposed: bool, bias: Slot | None) -> Step:
    x = walk.step(view.inputs[0])
    sizes = walk.sizes(view.outputs[0])
    if not is_transposed:
        kernel = replace(kernel, shape=kernel.shape[::-1], layout=np.transpose, note=_TRANSPOSED)
    before = x.inputs[0] if x.op == "Flatten" else None
    if before is not None and before.op == "Transpose" and _fact(before, "perm") == (0, 2, 3, 1):
        x = Step("Flatten", x.name, (), before.inputs, sizes=x.sizes)
        kernel = _by_channels(kernel, before.inputs[0].sizes)
    return Step("Dense", view.name, (), (x,), _with_bias({"weight": kernel}, bias), sizes)


def _by_channels(kernel: Slot, sizes: Sizes | None) -> Slot:
    """Return a kernel over (H, W, C) as one over (C, H, W)."""
    assert sizes is not None
    channels, height, width = (int(size or 0) for size in sizes)
    inner = kernel.layout

    def layout(array: np.ndarray) -> np.ndarray:
        whole = inner(array).reshape(-1, height, width, channels)
        return whole.transpose(0, 3, 1, 2).reshape(len(whole), -1)

    return replace(kernel, layout=layout, note=_ROWS)


def _with_bias(slots: dict[str, Slot], bias: Slot | None) -> dict[str, Slot]:
    if bias is None:
        return slots
    shape = (int(np.prod(bias.shape)),)
    return {**slots, "bias": replace(bias, shape=shape, layout=lambda array: array.reshape(shape))}


def _batch_norm(walk: _Walk, view: NodeView) -> Step | None:
    slots = dict(zip(("gamma", "beta", "mean", "variance"), map(walk.slot, view.inputs[1:5]), strict=True))
    if None in slots.values():
        return None
    known = {role: _known(slot) for role, slot in slots.items()}
    sizes, epsilon = walk.sizes(view.outputs[0]), float(np.float32(view["epsilon"]))
    return Step("BatchNorm", view.name, (), (walk.step(view.inputs[0]),), known, sizes, epsilon)


# ---- what lies between them


def _add(walk: _Walk, view: NodeView) -> Step | None:
    """A vector that is added to a layer without a bias is its bias; else an Add of two tensors."""
    for value, other in (view.inputs, view.inputs[::-1]):
        bias = walk.slot(other)
        layer = walk.steps.get(value) if value is not None else None
        if bias is None or layer is None or layer.op not in ("Dense", "Conv") or "bias" in layer.slots:
            continue
        width = layer.slots["weight"].shape[0]
        rank = len(layer.sizes) if layer.sizes is not None else 0
        axis = rank if layer.op == "Dense" else rank - len(layer.slots["weight"].shape) + 3
        if bias.shape in ((width,), (width, *(1,) * (rank - 1)), (1, width, *(1,) * (rank - 1))) and axis == 1:
            slots = _with_bias(layer.slots, bias)
            return Step(layer.op, layer.name, layer.facts, layer.inputs, slots, layer.sizes)
    return None


def _mul(walk: _Walk, view: NodeView) -> Step | None:
    """x · sigmoid(x) has a name of its own."""
    if any(walk.slot(value) for value in view.inputs):
        return None
    a, b = map(walk.step, view.inputs)
    for x, gate in ((a, b), (b, a)):
        if gate.op == "Sigmoid" and gate.inputs == (x,):
            return Step("Silu", view.name, (), (x,), sizes=x.sizes)
    return None


def _clip(walk: _Walk, view: NodeView) -> Step | None:
    bounds = [walk.constant(view.input(place)) for place in (1, 2)]
    if any(view.input(place) is not None and bounds[place - 1] is None for place in (1, 2)):
        return None
    low, high = (None if bound is None else _number(bound) for bound in bounds)
    x = walk.step(view.inputs[0])
    if low == 0 and high is None:
        return Step("Relu", view.name, (), (x,), sizes=x.sizes)
    return Step("Clip", view.name, (("from", low), ("to", high)), (x,), sizes=x.sizes)


def _pad(walk: _Walk, view: NodeView) -> Step | None:
    pads, fill = walk.constant(view.input(1)), walk.constant(view.input(2))
    is_zero = view.input(2) is None or (fill is not None and not fill.any())
    if pads is None or view["mode"] != "constant" or not is_zero or view.input(3) is not None:
        return None
    begins, ends = np.split(pads.astype(int), 2)
    if begins[:2].any() or ends[:2].any() or (pads < 0).any():
        return None
    x = walk.step(view.inputs[0])
    if not pads.any():
        return x
    around = tuple(int(n) for n in (*begins[2:], *ends[2:]))
    return Step("Pad", view.name, (("pads", around),), (x,), sizes=walk.sizes(view.outputs[0]))


def _pool(walk: _Walk, view: NodeView) -> Step | None:
    x, kernel = walk.step(view.inputs[0]), tuple(view["kernel_shape"])
    rank, is_mean = len(kernel), view.op == "AveragePool"
    pads = tuple(view.get("pads") or (0,) * 2 * rank)
    counts_padding = bool(view.get("count_include_pad"))
    if x.op == "Pad" and (counts_padding or not any(pads)) and (is_mean or x.inputs[0].op in _NOT_NEGATIVE):
        counts_padding = True
        pads = tuple(a + b for a, b in zip(pads, _fact(x, "pads"), strict=True))
        x = x.inputs[0]
    sizes = walk.sizes(view.outputs[0])
    spatial = (x.sizes or ())[1:]
    if is_mean and not any(pads) and spatial == kernel:
        return Step("GlobalMean", view.name, (), (x,), sizes=sizes)
    strides = tuple(view.get("strides") or (1,) * rank)
    dilations = tuple(view.get("dilations") or (1,) * rank)
    facts: Facts = (("kernel", kernel), ("strides", strides), ("begins", pads[:rank]), ("dilations", dilations))
    facts += _ends(view, spatial, (sizes or ())[1:], pads, kernel, strides, dilations)
    if is_mean and any(pads):
        facts += (("counts padding", counts_padding),)
    return Step(view.op, view.name, facts, (x,), sizes=sizes)


def _ends(
    view: NodeView,
    spatial: Sizes,
    sizes: Sizes,
    pads: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Facts:
    """Say how far windows reach over the end: by their count where sizes are known, else as it is written."""
    rank = len(kernel)
    if not spatial or None in spatial or None in sizes:
        return (("ends", tuple(pads[rank:])), ("ceil", view.get("ceil_mode", 0)))
    reach = [
        max((int(out or 0) - 1) * step + (k - 1) * dilation + 1 - int(size or 0) - begin, 0)
        for out, size, step, k, dilation, begin in zip(
            sizes, spatial, strides, kernel, dilations, pads[:rank], strict=True
        )
    ]
    return (("ends", tuple(reach)),)


def _mean(walk: _Walk, view: NodeView) -> Step | None:
    axes = walk.constant(view.input(1))
    x = walk.step(view.inputs[0])
    rank = 0 if x.sizes is None else len(x.sizes) + 1
    if axes is None or rank < 3 or sorted(int(axis) % rank for axis in axes) != list(range(2, rank)):
        return None
    return Step("GlobalMean", view.name, (), (x,), sizes=walk.sizes(view.outputs[0]))


def _global_mean(walk: _Walk, view: NodeView) -> Step:
    x = walk.step(view.inputs[0])
    return Step("GlobalMean", view.name, (), (x,), sizes=walk.sizes(view.outputs[0]))


def _reshape(walk: _Walk, view: NodeView) -> Step | None:
    """Axes of size 1 around a vector come and go unseen; an image may become a vector."""
    x, sizes = walk.step(view.inputs[0]), walk.sizes(view.outputs[0])
    if sizes is None or x.sizes is None or not _keeps_batch(view):
        return None
    bare = [size for size in x.sizes if size != 1]
    if x.is_vector and [size for size in sizes if size != 1] == bare:
        return x
    return Step("Flatten", view.name, (), (x,), sizes=sizes) if len(sizes) == 1 else None


def _keeps_batch(view: NodeView) -> bool:
    before, after = view.required(0).shape, view.outputs[0].shape
    return before is not None and after is not None and len(after) > 0 and before[0] == after[0]


def _passing(walk: _Walk, view: NodeView) -> Step:
    return walk.step(view.inputs[0])


_RULES: dict[str, Callable[[_Walk, NodeView], Step | None]] = {
    "Conv": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Add": _add,
    "Mul": _mul,
    "Clip": _clip,
    "Pad": _pad,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_mean,
    "ReduceMean": _mean,
    **dict.fromkeys(_RESHAPES, _reshape),
    **dict.fromkeys(_PASSING, _passing),
}


# ---- values as facts


def _fact(step: Step, key: str) -> Any:
    return dict(step.facts)[key]


def _known(slot: Slot | None) -> Slot:
    assert slot is not None
    return slot


def _number(array: np.ndarray | None) -> Hashable:
    """Return a constant in a form that is the same for a number and for an array of it alone."""
    if array is None:
        return None
    if array.size == 1:
        number = array.reshape(-1)[0]
        return float(np.float32(number)) if array.dtype.kind == "f" else _plain(number)
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _plain(value: Any) -> Hashable:
    """Return an attribute's value as something that prints and compares alike for equal values."""
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, np.ndarray):
        return _number(value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value if isinstance(value, (int, str, bytes)) else f"<{type(value).__name__} {id(value)}>"
