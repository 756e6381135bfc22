"""onnxruntime's own ops (``com.microsoft``), which its optimiser and quantiser write into files, said in standard ops.

Each rule follows the op's description in onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from portnet.graph.attention import attention, multi_head_attention, quantized_attention
from portnet.graph.blockwise import gather_block_quantized, matmul_nbits
from portnet.graph.functions import op_name
from portnet.graph.passes.rewrite import Editor, Site, every_node, input_at, is_read, python_attribute, rank
from portnet.graph.quantized_lstm import quantized_lstm
from portnet.graph.quantized_softmax import quantized_softmax
from portnet.graph.transformers import embed_layer_norm, quantized_embed_layer_norm, rotary_embedding

__all__ = ["expand_contrib"]

# rewrites a node and returns True, or leaves it and returns False where it cannot be said in standard ops
Rule = Callable[[Site, ir.Node], bool]
_RULES: dict[str, Rule] = {}

# onnxruntime registers it in the standard's domain
_MISPLACED = "SimplifiedLayerNormalization"


def expand_contrib(model: ir.Model, supports: frozenset[str]) -> bool:
    """Replace onnxruntime's ops that are not in ``supports``, by name (``com.microsoft.Gelu``); True if there was one.

    An op without a rule, or in a mode that standard ops cannot say, stays, for the engine to refuse.

    Requires: newest semantics; inferred types where a rule needs a rank.
    Ensures: new nodes are in the newest semantics, without types.
    """
    editor, changed = Editor(model), False
    for node in every_node(model.graph):
        rule = _rule_for(node)
        if rule is not None and op_name(node) not in supports:
            changed |= rule(Site(node, editor), node)
    return changed


def _rule_for(node: ir.Node) -> Rule | None:
    is_own = node.domain == "com.microsoft" or (node.domain == "" and node.op_type == _MISPLACED)
    return _RULES.get(node.op_type) if is_own else None


def _contrib(*op_types: str) -> Callable[[Callable[[Site, ir.Node], Any]], Rule]:
    def register(function: Callable[[Site, ir.Node], Any]) -> Rule:
        def rule(site: Site, node: ir.Node) -> bool:
            results = function(site, node)
            if results is None:
                return False
            site.replace(*(results if isinstance(results, tuple) else (results,)))
            return True

        for op_type in op_types:
            _RULES[op_type] = rule
        return rule

    return register


def _plus(site: Site, value: ir.Value, *others: ir.Value | None) -> ir.Value:
    for other in others:
        value = value if other is None else site.op("Add", value, other)
    return value


def _kept(node: ir.Node, *dropped: str) -> dict[str, Any]:
    """Return the node's attributes but those dropped."""
    return {name: python_attribute(node, name) for name in node.attributes if name not in dropped}


@_contrib("Gelu")
def gelu(site: Site, node: ir.Node) -> ir.Value:
    """x · Φ(x)."""
    return site.op("Gelu", node.inputs[0])


@_contrib("BiasGelu")
def bias_gelu(site: Site, node: ir.Node) -> ir.Value:
    """Gelu of input + bias."""
    return site.op("Gelu", site.op("Add", *node.inputs[:2]))


@_contrib("FastGelu")
def fast_gelu(site: Site, node: ir.Node) -> ir.Value:
    """Gelu by its tanh approximation, with a bias that may be left out."""
    return site.op("Gelu", _plus(site, node.inputs[0], input_at(node, 1)), approximate="tanh")  # type: ignore[arg-type]


@_contrib("QuickGelu")
def quick_gelu(site: Site, node: ir.Node) -> ir.Value:
    """x · sigmoid(alpha · x)."""
    alpha = site.scalar_like(python_attribute(node, "alpha", 1.702), node.inputs[0], "alpha")
    return site.op("Mul", node.inputs[0], site.op("Sigmoid", site.op("Mul", node.inputs[0], alpha)))


def _activated(site: Site, value: ir.Value, name: str, numbers: list[float]) -> ir.Value | None:
    """Apply a fused activation with its parameters."""
    if name in ("", "Relu", "Sigmoid", "Tanh", "HardSwish"):  # the last has no parameters in onnxruntime either
        return site.op(name, value) if name else value
    if name == "LeakyRelu" and numbers:
        return site.op("LeakyRelu", value, alpha=numbers[0])
    if name == "HardSigmoid" and len(numbers) > 1:
        return site.op("HardSigmoid", value, alpha=numbers[0], beta=numbers[1])
    if name == "Clip" and len(numbers) > 1:
        bounds = [site.scalar_like(number, value, "bound") for number in numbers]
        return site.op("Clip", value, *bounds)
    return None


@_contrib("FusedConv")
def fused_conv(site: Site, node: ir.Node) -> ir.Value | None:
    """activation(Conv(X, W, B) + Z)."""
    result = site.op("Conv", *node.inputs[:3], **_kept(node, "activation", "activation_params"))
    result.type = node.outputs[0].type
    name, numbers = python_attribute(node, "activation", ""), python_attribute(node, "activation_params", [])
    return _activated(site, _plus(site, result, input_at(node, 3)), name, numbers)


@_contrib("FusedGemm")
def fused_gemm(site: Site, node: ir.Node) -> ir.Value | None:
    """activation(Gemm(A, B, C))."""
    own = ("activation", "activation_alpha", "activation_beta", "activation_gamma")
    numbers = [python_attribute(node, name) for name in own[1:] if name in node.attributes]
    result = site.op("Gemm", *node.inputs, **_kept(node, *own))
    return _activated(site, result, python_attribute(node, "activation", ""), numbers)


@_contrib("FusedMatMul", "TransposeMatMul")
def fused_matmul(site: Site, node: ir.Node) -> ir.Value | None:
    """alpha · MatMul, either operand's last two axes swapped."""
    if python_attribute(node, "transBatchA", 0) or python_attribute(node, "transBatchB", 0):
        return None
    operands = [
        _swapped(site, value) if python_attribute(node, flag, 0) else value
        for value, flag in zip(node.inputs, ("transA", "transB"), strict=True)
    ]
    if None in operands:
        return None
    product, alpha = site.op("MatMul", *operands), python_attribute(node, "alpha", 1.0)
    return product if alpha == 1 else site.op("Mul", product, site.scalar_like(alpha, node.inputs[0], "alpha"))


def _swapped(site: Site, value: ir.Value | None) -> ir.Value | None:
    axes = rank(value)
    if axes is None or axes < 2:
        return None
    return site.op("Transpose", value, perm=[*range(axes - 2), axes - 1, axes - 2])


@_contrib("SimplifiedLayerNormalization")
def simplified_layer_norm(site: Site, node: ir.Node) -> ir.Value | None:
    """x / sqrt(mean(x²) + epsilon) · scale, over the last axes."""
    if any(is_read(node, index) for index in range(1, len(node.outputs))):
        return None
    return _rms_norm(site, node, node.inputs[0], node.inputs[1], python_attribute(node, "axis", -1))


def _rms_norm(site: Site, node: ir.Node, value: ir.Value | None, scale: ir.Value | None, axis: int) -> ir.Value | None:
    axes = rank(value)
    if axes is None and axis != -1:
        return None
    over = site.ints([-1] if axes is None else list(range(axis % axes, axes)), "axes")
    mean = site.op("ReduceMean", site.op("Mul", value, value), over)
    epsilon = site.scalar_like(python_attribute(node, "epsilon", 1e-5), value, "epsilon")
    return site.op("Mul", site.op("Div", value, site.op("Sqrt", site.op("Add", mean, epsilon))), scale)


@_contrib("SkipLayerNormalization")
def skip_layer_norm(site: Site, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """LayerNormalization over the last axis of input + skip + bias, and that sum."""
    total = _plus(site, node.inputs[0], node.inputs[1], input_at(node, 4))  # type: ignore[arg-type]
    epsilon = python_attribute(node, "epsilon", 1e-12)
    result = site.op("LayerNormalization", total, node.inputs[2], input_at(node, 3), axis=-1, epsilon=epsilon)
    return _with_sum(node, result, total)


@_contrib("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_norm(site: Site, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """RMS normalization over the last axis of input + skip + bias, and that sum."""
    total = _plus(site, node.inputs[0], node.inputs[1], input_at(node, 3))  # type: ignore[arg-type]
    return _with_sum(node, _rms_norm(site, node, total, node.inputs[2], -1), total)


def _with_sum(node: ir.Node, result: ir.Value | None, total: ir.Value) -> tuple[ir.Value | None, ...] | None:
    """Return the outputs of a skip normalization; None where its statistics are read."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:3]):
        return None
    return (result, None, None, total)[: len(node.outputs)]


def _dequantized(site: Site, value: ir.Value | None, scale: ir.Value | None, zero: ir.Value | None) -> ir.Value:
    return site.op("DequantizeLinear", value, scale, zero)


@_contrib("QuantizeLinear", "DequantizeLinear")
def quantize(site: Site, node: ir.Node) -> ir.Value:
    """The same as the standard's."""
    return site.op(node.op_type, *node.inputs, **_kept(node))


@_contrib("QLinearAdd", "QLinearMul")
def qlinear_binary(site: Site, node: ir.Node) -> ir.Value:
    """Add or Mul of what the quantized operands stand for."""
    first, second = (_dequantized(site, *node.inputs[start : start + 3]) for start in (0, 3))
    result = site.op(node.op_type.removeprefix("QLinear"), first, second)
    return site.op("QuantizeLinear", result, node.inputs[6], input_at(node, 7))


@_contrib("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_activation(site: Site, node: ir.Node) -> ir.Value:
    """An activation of what the quantized input stands for."""
    value = _dequantized(site, *node.inputs[:3])
    result = site.op(node.op_type.removeprefix("QLinear"), value, **_kept(node))
    return site.op("QuantizeLinear", result, node.inputs[3], input_at(node, 4))


@_contrib("QLinearSoftmax")
def qlinear_softmax(site: Site, node: ir.Node) -> ir.Value | None:
    """Exponentials of a table and their sum, see `quantized_softmax`."""
    return quantized_softmax(site, node)


@_contrib("QLinearGlobalAveragePool", "QLinearAveragePool")
def qlinear_pool(site: Site, node: ir.Node) -> ir.Value | None:
    """Average pooling of what the quantized input stands for."""
    last, axes = python_attribute(node, "channels_last", 0), rank(node.inputs[0])
    if last and axes is None:
        return None
    source = _channels_moved(site, node.inputs[0], axes, to_front=True) if last else node.inputs[0]
    value = _dequantized(site, source, *node.inputs[1:3])
    result = site.op(node.op_type.removeprefix("QLinear"), value, **_kept(node, "channels_last"))
    result = site.op("QuantizeLinear", result, node.inputs[3], input_at(node, 4))
    return _channels_moved(site, result, axes, to_front=False) if last else result


def _channels_moved(site: Site, value: ir.Value | None, axes: int | None, *, to_front: bool) -> ir.Value:
    """Move channels from the last axis to the second, or back."""
    assert axes is not None
    return site.op("Transpose", value, perm=[0, axes - 1, *range(1, axes - 1)] if to_front else [0, *range(2, axes), 1])


@_contrib("NhwcMaxPool")
def nhwc_max_pool(site: Site, node: ir.Node) -> ir.Value | None:
    """MaxPool of channels that come last."""
    axes = rank(node.inputs[0])
    if axes is None:
        return None
    result = site.op("MaxPool", _channels_moved(site, node.inputs[0], axes, to_front=True), **_kept(node))
    return _channels_moved(site, result, axes, to_front=False)


@_contrib("QLinearConv")
def qlinear_conv(site: Site, node: ir.Node) -> ir.Value | None:
    """The standard's, of channels that may come last; kernels are as the standard has them."""
    last, axes = python_attribute(node, "channels_last", 0), rank(node.inputs[3])
    if last and axes is None:
        return None
    source = _channels_moved(site, node.inputs[0], axes, to_front=True) if last else node.inputs[0]
    result = site.op("QLinearConv", source, *node.inputs[1:], **_kept(node, "channels_last"))
    return _channels_moved(site, result, axes, to_front=False) if last else result


@_contrib("QLinearWhere")
def qlinear_where(site: Site, node: ir.Node) -> ir.Value:
    """Where of what the quantized operands stand for."""
    first, second = (_dequantized(site, *node.inputs[start : start + 3]) for start in (1, 4))
    return site.op("QuantizeLinear", site.op("Where", node.inputs[0], first, second), *node.inputs[7:9])


@_contrib("QLinearConcat")
def qlinear_concat(site: Site, node: ir.Node) -> ir.Value:
    """Concat of what the quantized inputs stand for."""
    parts = [_dequantized(site, *node.inputs[start : start + 3]) for start in range(2, len(node.inputs), 3)]
    return site.op("QuantizeLinear", site.op("Concat", *parts, **_kept(node)), *node.inputs[:2])


@_contrib("QGemm")
def qgemm(site: Site, node: ir.Node) -> ir.Value:
    """Gemm of what the quantized matrices stand for; the bias is an integer, scaled as their product and by alpha."""
    first, first_scale, first_zero, second, second_scale, second_zero = node.inputs[:6]
    columns = 0 if python_attribute(node, "transB", 0) else 1
    operands = (
        _dequantized(site, first, first_scale, first_zero),
        site.op("DequantizeLinear", second, second_scale, second_zero, axis=columns),
    )
    result, bias = site.op("Gemm", *operands, **_kept(node)), input_at(node, 6)
    if bias is not None:
        alpha = site.scalar_like(python_attribute(node, "alpha", 1.0), first_scale, "alpha")
        scale = site.op("Mul", site.op("Mul", first_scale, second_scale), alpha)
        result = site.op("Add", result, site.op("Mul", site.op("Cast", bias, to=int(ir.DataType.FLOAT)), scale))
    return result if input_at(node, 7) is None else site.op("QuantizeLinear", result, node.inputs[7], input_at(node, 8))


@_contrib("MatMulIntegerToFloat")
def matmul_integer_to_float(site: Site, node: ir.Node) -> ir.Value:
    """Product of quantized matrices, scaled back."""
    first, second, first_scale, second_scale = node.inputs[:4]
    product = site.op("MatMulInteger", first, second, input_at(node, 4), input_at(node, 5))
    scaled = site.op(
        "Mul", site.op("Cast", product, to=int(ir.DataType.FLOAT)), site.op("Mul", first_scale, second_scale)
    )
    return _plus(site, scaled, input_at(node, 6))


@_contrib("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(site: Site, node: ir.Node) -> ir.Value:
    """The first matrix is quantized as it comes."""
    first, scale, zero = site.ops("DynamicQuantizeLinear", node.inputs[0], count=3)
    product = site.op("MatMulInteger", first, node.inputs[1], zero, input_at(node, 3))
    scaled = site.op("Mul", site.op("Cast", product, to=int(ir.DataType.FLOAT)), site.op("Mul", scale, node.inputs[2]))
    return _plus(site, scaled, input_at(node, 4))


@_contrib("ExpandDims")
def expand_dims(site: Site, node: ir.Node) -> ir.Value:
    """Unsqueeze at one axis."""
    axis = site.op("Reshape", site.op("Cast", node.inputs[1], to=int(ir.DataType.INT64)), site.ints([1], "one"))
    return site.op("Unsqueeze", node.inputs[0], axis)


@_contrib("Unique")
def unique(site: Site, node: ir.Node) -> tuple[ir.Value, ...]:
    """The standard's in the order of occurrence, without the places where values were found first."""
    values, _, inverse, counts = site.ops("Unique", node.inputs[0], count=4, sorted=0)
    return (values, inverse, counts)[: len(node.outputs)]


@_contrib("Pad", "Range", "Trilu")
def same_as_standard(site: Site, node: ir.Node) -> ir.Value | None:
    """The standard has taken it over."""
    if len(node.outputs) > 1:
        return None
    return site.op(node.op_type, *node.inputs, **_kept(node))


@_contrib("GatherND")
def gather_nd(site: Site, node: ir.Node) -> ir.Value:
    """The standard's, whose indices are int64."""
    return site.op("GatherND", node.inputs[0], site.op("Cast", node.inputs[1], to=int(ir.DataType.INT64)))


@_contrib("CDist")
def cdist(site: Site, node: ir.Node) -> ir.Value:
    """Distances of the rows of (M, D) from those of (N, D): (M, N)."""
    rows, columns = (site.op("Unsqueeze", node.inputs[i], site.ints([1 - i], "axis")) for i in (0, 1))
    difference = site.op("Sub", rows, columns)
    squares = site.op("ReduceSum", site.op("Mul", difference, difference), site.ints([-1], "axes"), keepdims=0)
    return site.op("Sqrt", squares) if python_attribute(node, "metric", "sqeuclidean") == "euclidean" else squares


@_contrib("GridSample")
def grid_sample(site: Site, node: ir.Node) -> ir.Value:
    """The standard's, whose modes lost their prefix."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(python_attribute(node, "mode", "bilinear"), "nearest")
    return site.op("GridSample", *node.inputs, **{**_kept(node), "mode": mode})


@_contrib("DynamicQuantizeLSTM")
def dynamic_quantize_lstm(site: Site, node: ir.Node) -> tuple[ir.Value, ...] | None:
    """LSTM of 8-bit weights: the input is quantized as it comes, the hidden state at every step."""
    return quantized_lstm(site, node)


for _op_type, _function in {
    "Attention": attention,
    "EmbedLayerNormalization": embed_layer_norm,
    "GatherBlockQuantized": gather_block_quantized,
    "MatMulNBits": matmul_nbits,
    "MultiHeadAttention": multi_head_attention,
    "QAttention": quantized_attention,
    "QEmbedLayerNormalization": quantized_embed_layer_norm,
    "RotaryEmbedding": rotary_embedding,
}.items():
    _contrib(_op_type)(_function)
