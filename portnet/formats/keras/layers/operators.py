"""Operators between layers: Keras 3's ``keras.ops`` and, in Keras 2, TensorFlow's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.activation import ACTIVATIONS, softmax
from portnet.formats.keras.layers.operands import (
    added,
    array_of,
    dropped,
    fewer,
    operator,
    tensor_of,
)
from portnet.formats.keras.layers.shape import joined
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

# ---- of one operand

_UNARY = {
    "Negative": ("Neg", "math.negative", "negative"),
    "Absolute": ("Abs", "math.abs", "abs"),
    "Abs": ("Abs",),
    "Exp": ("Exp", "math.exp", "exp"),
    "Log": ("Log", "math.log"),
    "Sqrt": ("Sqrt", "math.sqrt", "sqrt"),
    "Sin": ("Sin", "math.sin", "sin"),
    "Cos": ("Cos", "math.cos", "cos"),
    "Floor": ("Floor", "math.floor", "floor"),
    "Ceil": ("Ceil", "math.ceil"),
    "Round": ("Round", "math.round", "round"),
    "Sign": ("Sign", "math.sign", "sign"),
    "Erf": ("Erf", "math.erf"),
    "Reciprocal": ("Reciprocal", "math.reciprocal"),
}


def _unary(op: str) -> Callable[[Walk, LayerNode], Held]:
    return lambda walk, node: walk.same(op, node.argument(0, "x", "input"))


for _keras, (_op, *_names) in _UNARY.items():
    operator(_keras, *_names)(_unary(_op))

_ACTIVATIONS = {
    "Relu": ("relu", "nn.relu"),
    "Relu6": ("relu6", "nn.relu6"),
    "Sigmoid": ("sigmoid", "math.sigmoid", "sigmoid", "nn.sigmoid"),
    "Tanh": ("tanh", "math.tanh", "tanh", "nn.tanh"),
    "Silu": ("silu", "nn.silu", "nn.swish"),
    "Softplus": ("softplus", "math.softplus", "nn.softplus"),
    "Softsign": ("softsign", "math.softsign", "nn.softsign"),
    "Selu": ("selu", "nn.selu"),
    "HardSigmoid": ("hard_sigmoid",),
    "HardSilu": ("hard_silu",),
    "HardTanh": ("hard_tanh",),
    "LogSigmoid": ("log_sigmoid", "math.log_sigmoid"),
    "Mish": ("mish",),
    "TanhShrink": ("tanh_shrink",),
}


def _activation(name: str) -> Callable[[Walk, LayerNode], Held]:
    return lambda walk, node: ACTIVATIONS[name](walk, node.inputs[0])


for _keras, (_op, *_names) in _ACTIVATIONS.items():
    operator(_keras, *_names)(_activation(_op))


@operator("Gelu", "nn.gelu")
def gelu(walk: Walk, node: LayerNode) -> Held:
    """By the error function, or by tanh where ``approximate`` says so."""
    approximate = node.argument(1, "approximate", default=node.kind.startswith("ops."))
    return walk.same("Gelu", node.inputs[0], approximate="tanh" if approximate else "none")


@operator("LeakyRelu", "nn.leaky_relu")
def leaky_relu(walk: Walk, node: LayerNode) -> Held:
    """Slope below zero."""
    return walk.same("LeakyRelu", node.inputs[0], alpha=float(node.argument(1, "negative_slope", "alpha", default=0.2)))


@operator("Elu", "nn.elu")
def elu(walk: Walk, node: LayerNode) -> Held:
    """Exponential below zero."""
    return walk.same("Elu", node.inputs[0], alpha=float(node.argument(1, "alpha", default=1)))


@operator("Softmax", "nn.softmax")
def softmax_operator(walk: Walk, node: LayerNode) -> Held:
    """Over one axis."""
    return softmax(walk, tensor_of(walk, node.inputs[0]), _one_axis(node))


@operator("LogSoftmax", "nn.log_softmax")
def log_softmax_operator(walk: Walk, node: LayerNode) -> Held:
    """Logarithm of softmax over one axis."""
    return softmax(walk, tensor_of(walk, node.inputs[0]), _one_axis(node), "LogSoftmax")


@operator("Square", "math.square", "square")
def square(walk: Walk, node: LayerNode) -> Held:
    """x · x."""
    x = node.inputs[0]
    return walk.same("Mul", x, x.value)


@operator("Rsqrt", "math.rsqrt")
def rsqrt(walk: Walk, node: LayerNode) -> Held:
    """1 / √x."""
    return walk.same("Reciprocal", walk.same("Sqrt", node.inputs[0]))


@operator("Clip", "clip_by_value")
def clip(walk: Walk, node: LayerNode) -> Held:
    """Between two numbers."""
    low, high = node.argument(1, "x_min", "clip_value_min"), node.argument(2, "x_max", "clip_value_max")
    if isinstance(low, Held) or isinstance(high, Held) or array_of(low).ndim or array_of(high).ndim:
        raise UnsupportedError("bounds that are no numbers")
    return walk.same("Clip", node.inputs[0], walk.number(low, "min"), walk.number(high, "max"))


@operator("Cast", "cast")
def cast(walk: Walk, node: LayerNode) -> Held:
    """Another element type."""
    name = node.argument(1, "dtype")
    if name not in ("float32", "float16", "int32", "int64", "uint8", "bool"):
        raise UnsupportedError(f"dtype={name!r}")
    return walk.same("Cast", node.inputs[0], to=ir.DataType.from_numpy(np.dtype(name)).value)


@layer("ops.StopGradient", "ops.Copy", "ops.Identity", "ops.ConvertToTensor")
def same(walk: Walk, node: LayerNode) -> Held:
    """Nothing, in inference."""
    return node.inputs[0]


layer("tf.stop_gradient", "tf.identity", "tf.convert_to_tensor")(same)

# ---- over axes

_REDUCTIONS = {
    "Mean": ("ReduceMean", "math.reduce_mean", "reduce_mean"),
    "Sum": ("ReduceSum", "math.reduce_sum", "reduce_sum"),
    "Max": ("ReduceMax", "math.reduce_max", "reduce_max"),
    "Min": ("ReduceMin", "math.reduce_min", "reduce_min"),
    "Prod": ("ReduceProd", "math.reduce_prod", "reduce_prod"),
    "Logsumexp": ("ReduceLogSumExp", "math.reduce_logsumexp"),
}


def _reduction(op: str) -> Callable[[Walk, LayerNode], Held]:
    def build(walk: Walk, node: LayerNode) -> Held:
        x = tensor_of(walk, node.inputs[0])
        axes, keeps = _axes(node, x), bool(node.argument(2, "keepdims", default=False))
        places = sorted(x.axis(axis) for axis in axes)
        value = walk.emit(op, [x.value, walk.ints(places, "axes")], x.order, keepdims=int(keeps)).value
        return Held(value, x.order if keeps else fewer(x.order, axes))

    return build


for _keras, (_op, *_names) in _REDUCTIONS.items():
    operator(_keras, *_names)(_reduction(_op))


def _axes(node: LayerNode, x: Held) -> list[int]:
    given = node.argument(1, "axis")
    if given is None:
        raise UnsupportedError("axis=None, which runs over the batch")
    axes = sorted({x.positive(axis) for axis in (given if isinstance(given, (list, tuple)) else [given])})
    if 0 in axes and x.shape[0] is None:
        raise UnsupportedError("axis 0, the batch")
    return axes


def _one_axis(node: LayerNode) -> int:
    axis = node.argument(1, "axis", default=-1)
    if not isinstance(axis, int):
        raise UnsupportedError(f"axis={axis!r}"[:80])
    return axis


@operator("ExpandDims", "expand_dims")
def expand_dims(walk: Walk, node: LayerNode) -> Held:
    """A new axis of size 1."""
    x = tensor_of(walk, node.inputs[0])
    axes = node.argument(1, "axis", default=-1)
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    places = [axis % (x.rank + len(axes)) for axis in axes]
    if 0 in places:
        raise UnsupportedError("a new axis before the batch")
    return added(walk, x, places)


@operator("Squeeze", "squeeze", "compat.v1.squeeze")
def squeeze(walk: Walk, node: LayerNode) -> Held:
    """Without axes of size 1."""
    x = tensor_of(walk, node.inputs[0])
    given = node.argument(1, "axis", "squeeze_dims")
    axes = given if isinstance(given, (list, tuple)) else [given]
    if given is None or not axes:
        axes = [axis for axis in range(1, x.rank) if x.shape[axis] == 1]
    return dropped(walk, x, [x.positive(axis) for axis in axes])


@operator("Concatenate", "concat")
def concatenate(walk: Walk, node: LayerNode) -> Held:
    """Join along one axis."""
    return joined(walk, node.inputs, _one_axis(node))


@operator("Stack", "stack")
def stack(walk: Walk, node: LayerNode) -> Held:
    """Join along a new axis."""
    tensors = [tensor_of(walk, x) for x in node.inputs]
    axis = node.argument(1, "axis", default=0) % (tensors[0].rank + 1)
    if not axis:
        raise UnsupportedError("a new axis before the batch")
    return joined(walk, [added(walk, x, [axis]) for x in tensors], axis)


@operator("Split", "split")
def split(walk: Walk, node: LayerNode) -> list[Held]:
    """Equal parts along one axis."""
    x = tensor_of(walk, node.inputs[0])
    count = node.argument(1, "indices_or_sections", "num_or_size_splits")
    axis = x.positive(node.argument(2, "axis", default=0))
    if not isinstance(count, int) or not 0 < count <= 1024 or not axis or x.size(axis, node.name) % count:
        raise UnsupportedError("parts that are not equal")
    values = walk.writer.nodes(
        "Split", [x.value], f"{node.name}/split", count=count, axis=x.axis(axis), num_outputs=count
    )
    return [Held(value, x.order) for value in values]


def _factor(walk: Walk, value: Any) -> Held:
    """Return a tensor, or numbers of two axes and more."""
    if isinstance(value, Held):
        return tensor_of(walk, value)
    array = array_of(value)
    if array.ndim < 2:
        raise UnsupportedError("a factor that is no matrix")
    return Held.plain(walk.constant(array, "factor"))


@operator("Matmul", "linalg.matmul", "matmul")
def matmul(walk: Walk, node: LayerNode) -> Held:
    """Matrix product of the last two axes."""
    tensors = [_factor(walk, node.argument(i, *names)) for i, names in enumerate((("x1", "a"), ("x2", "b")))]
    for i, key in enumerate(("transpose_a", "transpose_b")):
        x = walk.plain(tensors[i])
        if node.argument(9, key, default=False):
            x = walk.arranged(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))
        tensors[i] = Held.plain(x.value)
    return walk.emit("MatMul", [x.value for x in tensors], identity(max(x.rank for x in tensors)))


@operator("Pad", "pad", "compat.v1.pad")
def pad(walk: Walk, node: LayerNode) -> Held:
    """Numbers around the edges."""
    x = tensor_of(walk, node.inputs[0])
    widths = array_of(node.argument(1, "pad_width", "paddings"))
    mode = str(node.argument(2, "mode", default="constant")).lower()
    if mode not in ("constant", "reflect", "edge") or (x.rank, 2) != np.broadcast_shapes(widths.shape, (x.rank, 2)):
        raise UnsupportedError(f"mode={mode!r}")
    pairs = np.broadcast_to(widths, (x.rank, 2))
    if pairs.min() < 0 or pairs[0].any():
        raise UnsupportedError("padding of the batch, or less than none")
    pads = walk.ints([int(pairs[a, 0]) for a in x.order] + [int(pairs[a, 1]) for a in x.order], "pads")
    number = node.argument(3, "constant_values")
    inputs = [pads] + (
        [walk.number(float(array_of(number)), "number")] if number is not None and mode == "constant" else []
    )
    return walk.same("Pad", x, *inputs, mode=mode)
