"""Draws single quantized ops, of the standard and of onnxruntime's own, and onnxruntime's fused ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from op_cases import Op, Rng, array, pick, sizes

OWN = "com.microsoft"


def whole(rng: Rng, shape: Any, dtype: str) -> np.ndarray:
    """Return numbers over the whole range of an 8-bit dtype."""
    limits = np.iinfo(dtype)
    return np.asarray(rng.integers(limits.min, limits.max + 1, shape)).astype(dtype)


def _scale(rng: Rng, shape: Any = ()) -> np.ndarray:
    """Return scales that are powers of two half of the time, so that quotients tie."""
    if rng.random() < 0.5:
        return np.asarray(2.0 ** rng.integers(-4, 1, shape)).astype(np.float32)
    return np.asarray(rng.uniform(0.01, 0.5, shape)).astype(np.float32)


def _zero(rng: Rng, shape: Any, dtype: str) -> np.ndarray:
    return array(rng, shape, dtype)


def quantize(rng: Rng) -> Op:
    """QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear, per tensor, per axis and per block."""
    name = pick(rng, "QuantizeLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
    shape = [2, 4, *sizes(rng, int(rng.integers(0, 3)), 2, 5)]
    dtype, opset = pick(rng, "int8", "uint8"), pick(rng, 10, 13, 19, 21, 23)
    if name == "DynamicQuantizeLinear":
        return Op(name, [array(rng, shape) + np.float32(pick(rng, 0, 3, -3))], outputs=3, opset=11)
    if opset >= 21 and rng.random() < 0.3:
        dtype = pick(rng, "int16", "uint16")
    attributes, per = {}, ()
    if opset >= 13 and rng.random() < 0.6:
        axis = int(rng.integers(-len(shape), len(shape)))
        attributes, per = {"axis": axis}, (shape[axis],)
        if opset >= 21 and rng.random() < 0.4:
            blocked = [n // 2 if i == axis % len(shape) and n % 2 == 0 else n for i, n in enumerate(shape)]
            attributes, per = {"axis": axis, "block_size": 2 if shape[axis] % 2 == 0 else 1}, tuple(blocked)
    scale = _scale(rng, per)
    zero = [_zero(rng, per, dtype)] if rng.random() < 0.7 else []
    if name == "DequantizeLinear":
        source = zero[0].dtype.name if zero else pick(rng, "uint8", "int8", "int32" if opset < 21 else "int8")
        return Op(name, [whole(rng, shape, source), scale, *zero], attributes, opset=opset)
    x = np.round(array(rng, shape) * 40) * np.float32(pick(rng, 0.5, 0.25, 0.3))
    if opset >= 19 and rng.random() < 0.2:
        x, scale = x.astype(np.float16), scale.astype(np.float16)
    return Op(name, [x, scale, *zero], attributes, opset=opset)


def quantized_product(rng: Rng) -> Op:
    """QLinearMatMul, MatMulInteger and the contributed products."""
    name = pick(rng, "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")
    n, k, m = sizes(rng, 3, 2, 6)
    left, right = pick(rng, "uint8", "int8"), pick(rng, "uint8", "int8")
    a = whole(rng, pick(rng, [n, k], [2, n, k], [2, 3, n, k]), left)
    b = whole(rng, [k, m], right)
    per = pick(rng, (), (m,))
    za, zb = _zero(rng, (), left), _zero(rng, per, right)
    if name == "MatMulInteger":
        zeros = pick(rng, [], [za], [za, zb], [None, zb])
        return Op(name, [a, b, *zeros], opset=10)
    if name == "QLinearMatMul":
        per = pick(rng, (), (m,))
        rest = [
            _scale(rng),
            za,
            b,
            _scale(rng, per),
            _zero(rng, per, right),
            _scale(rng) * np.float32(50),
            _zero(rng, (), left),
        ]
        return Op(name, [a, *rest], opset=pick(rng, 10, 21))
    bias = array(rng, [m])
    if name == "MatMulIntegerToFloat":
        zeros = pick(rng, [], [za], [za, zb], [za, zb, bias], [None, None, bias])
        return Op(name, [a, b, _scale(rng), _scale(rng, per), *zeros], domain=OWN)
    if name == "DynamicQuantizeMatMul":
        zeros = pick(rng, [], [zb], [zb, bias], [None, bias])
        return Op(name, [array(rng, a.shape), b, _scale(rng, per), *zeros], domain=OWN)
    ta, tb = int(rng.integers(2)), int(rng.integers(2))
    a, b = whole(rng, [k, n] if ta else [n, k], left), whole(rng, [m, k] if tb else [k, m], right)
    c = rng.integers(-999, 999, [m]).astype(np.int32) if rng.random() < 0.6 else None
    end = [_scale(rng) * np.float32(50), _zero(rng, (), left)] if rng.random() < 0.5 else []
    given = [a, _scale(rng), za, b, _scale(rng, per), zb, c, *end]
    return Op(name, given, {"transA": ta, "transB": tb, "alpha": pick(rng, 1.0, 0.5)}, domain=OWN)


def quantized_conv(rng: Rng) -> Op:
    """QLinearConv and ConvInteger, with groups, strides, dilations and padding by the zero point."""
    rank, groups = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    left, right = pick(rng, "uint8", "uint8", "int8"), pick(rng, "uint8", "int8")
    kernel = sizes(rng, rank, 1, 4)
    outer = 2 * groups
    attributes = {
        "group": groups,
        "strides": sizes(rng, rank, 1, 3),
        "dilations": sizes(rng, rank, 1, 3),
        "pads": sizes(rng, 2 * rank, 0, 3),
    }
    x, w = whole(rng, [2, 2 * groups, *sizes(rng, rank, 6, 9)], left), whole(rng, [outer, 2, *kernel], right)
    if rng.random() < 0.4:
        zeros = pick(rng, [], [_zero(rng, (), left)], [_zero(rng, (), left), _zero(rng, (), right)])
        return Op("ConvInteger", [x, w, *zeros], attributes, opset=10)
    per = pick(rng, (), (outer,))
    weights = [w, _scale(rng, per), np.broadcast_to(_zero(rng, (), right), per).copy()]
    bias = [rng.integers(-9999, 9999, [outer]).astype(np.int32)] if rng.random() < 0.5 else []
    out = [_scale(rng) * np.float32(50), _zero(rng, (), left)]
    return Op("QLinearConv", [x, _scale(rng), _zero(rng, (), left), *weights, *out, *bias], attributes, opset=10)


def quantized_own(rng: Rng) -> Op:
    """onnxruntime's own quantized sums, activations and pools."""
    name = pick(
        rng,
        "QLinearAdd",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "QLinearGlobalAveragePool",
        "QLinearConcat",
        "QuantizeLinear",
        "DequantizeLinear",
        "QLinearAveragePool",
        "QLinearSoftmax",
    )
    dtype = pick(rng, "uint8", "int8")
    shape = [2, 3, *sizes(rng, 2, 3, 6)]
    x = whole(rng, shape, dtype)
    pair = lambda: [_scale(rng), _zero(rng, (), dtype)]  # noqa: E731
    if name in ("QLinearAdd", "QLinearMul"):
        other = whole(rng, [pick(rng, 1, n) for n in shape[int(rng.integers(3)) :]], dtype)
        return Op(name, [x, *pair(), other, *pair(), *pair()], domain=OWN)
    if name == "QLinearConcat":
        axis = int(rng.integers(-4, 4))
        return Op(
            name, [*pair(), x, *pair(), whole(rng, shape, dtype), *pair()], {"axis": axis}, domain=OWN, constants=3
        )
    if name in ("QuantizeLinear", "DequantizeLinear"):
        axis = int(rng.integers(0, 4))
        per = pick(rng, (), (shape[axis],))
        given = x if name[0] == "D" else np.round(array(rng, shape) * 20) / np.float32(2)
        return Op(name, [given, _scale(rng, per), _zero(rng, per, dtype)], {"axis": axis} if per else {}, domain=OWN)
    attributes: dict[str, Any] = {}
    if name == "QLinearLeakyRelu":
        attributes = {"alpha": 0.1}
    if name == "QLinearSoftmax":
        attributes = {"opset": pick(rng, 12, 13), "axis": int(rng.integers(-4, 4))}
    if name == "QLinearAveragePool":
        attributes = {"kernel_shape": [2, 2], "strides": sizes(rng, 2, 1, 3), "pads": sizes(rng, 4, 0, 2)}
        attributes |= {"count_include_pad": int(rng.integers(2)), "ceil_mode": int(rng.integers(2))}
    return Op(name, [x, *pair(), *pair()], attributes, domain=OWN)


def fused(rng: Rng) -> Op:
    """onnxruntime's own ops on floats."""
    name = pick(
        rng,
        "Gelu",
        "BiasGelu",
        "FastGelu",
        "QuickGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "MultiHeadAttention",
        "Attention",
        "EmbedLayerNormalization",
        "Trilu",
        "ExpandDims",
        "Unique",
        "GridSample",
        "Range",
        "RotaryEmbedding",
    )
    x, bias = array(rng, [2, 3, 8]), array(rng, [8])
    if name in ("Gelu", "QuickGelu", "FastGelu", "BiasGelu"):
        given = [x, bias] if name == "BiasGelu" or (name == "FastGelu" and rng.random() < 0.5) else [x]
        return Op(name, given, {"alpha": pick(rng, 1.0, 1.7)} if name == "QuickGelu" else {}, domain=OWN)
    if name == "FusedConv":
        how, numbers = pick(
            rng,
            ("Relu", []),
            ("LeakyRelu", [0.2]),
            ("Clip", [-1.0, 1.0]),
            ("Tanh", []),
            ("Sigmoid", []),
            ("HardSigmoid", [0.3, 0.4]),
        )
        attributes = {"activation": how, "pads": [1, 1, 0, 1], "strides": sizes(rng, 2, 1, 3)}
        attributes |= {"activation_params": numbers} if numbers else {}
        return Op(name, [array(rng, [1, 2, 6, 5]), array(rng, [4, 2, 3, 2]), array(rng, [4])], attributes, domain=OWN)
    if name == "FusedGemm":
        how = pick(rng, "Relu", "LeakyRelu", "Tanh", "Sigmoid")
        attributes = {
            "activation": how,
            "alpha": 0.5,
            "transB": 1,
            **({"activation_alpha": 0.2} if how[0] == "L" else {}),
        }
        return Op(name, [x[0], array(rng, [4, 8]), array(rng, [4])], attributes, domain=OWN)
    if name == "FusedMatMul":
        ta, tb = int(rng.integers(2)), int(rng.integers(2))
        a, b = array(rng, [2, 4, 3] if ta else [2, 3, 4]), array(rng, [2, 5, 4] if tb else [2, 4, 5])
        return Op(name, [a, b], {"transA": ta, "transB": tb, "alpha": pick(rng, 1.0, 0.3)}, domain=OWN)
    if name.startswith("Skip"):
        simple = "Simplified" in name
        rest = [array(rng, [8])] if simple else pick(rng, [array(rng, [8])], [array(rng, [8]), bias])
        rest = rest + ([None] * (2 - len(rest)) if not simple else []) + [bias] if rng.random() < 0.5 else rest
        return Op(name, [x, array(rng, x.shape), *rest], {"epsilon": 1e-3}, domain=OWN)
    if name == "MultiHeadAttention":
        k, v = array(rng, [2, 5, 8]), array(rng, [2, 5, 8])
        flags: dict[str, Any] = {"num_heads": pick(rng, 1, 2, 4)}
        flags |= pick(rng, {}, {"scale": 0.3}, {"unidirectional": 1})
        rest = pick(
            rng,
            [],
            [array(rng, [24])],
            [None, np.array([4, 2], np.int32)],
            [None, None, array(rng, [1, flags["num_heads"], 3, 5])],
        )
        return Op(name, [x, k, v, *rest], flags, domain=OWN, constants=3)
    if name == "Attention":
        mask = pick(rng, [], [np.array([2, 3], np.int32)], [np.array([[1, 1, 0], [1, 1, 1]], np.int32)])
        flags = {"num_heads": pick(rng, 1, 2), **pick(rng, {}, {"unidirectional": 1})}
        return Op(name, [x, array(rng, [8, 24]), array(rng, [24]), *mask], flags, domain=OWN)
    if name == "EmbedLayerNormalization":
        ids = rng.integers(0, 6, [2, 3]).astype(np.int32)
        segments = pick(rng, None, rng.integers(0, 2, [2, 3]).astype(np.int32))
        tables = [array(rng, [6, 8]), array(rng, [4, 8]), None if segments is None else array(rng, [2, 8])]
        mask = pick(rng, [], [np.array([[1, 1, 0], [1, 1, 1]], np.int32)])
        return Op(name, [ids, segments, *tables, bias, array(rng, [8]), *mask], {}, 2, domain=OWN, constants=2)
    if name == "Trilu":
        return Op(name, [x, np.array(int(rng.integers(-3, 4)), np.int64)], {"upper": int(rng.integers(2))}, domain=OWN)
    if name == "ExpandDims":
        return Op(name, [x, np.array(int(rng.integers(-4, 4)), np.int32)], domain=OWN)
    if name == "Unique":
        return Op(name, [np.round(array(rng, [9]))], {}, 3, domain=OWN)
    if name == "Range":
        return Op(name, [np.array(v, np.float32) for v in (1, 6, 1.5)], domain=OWN, constants=pick(rng, 0, 3))
    if name == "GridSample":
        flags = {"mode": pick(rng, "bilinear", "nearest", "bicubic"), "align_corners": int(rng.integers(2))}
        flags |= {"padding_mode": pick(rng, "zeros", "border", "reflection")}
        return Op(name, [array(rng, [1, 2, 4, 5]), array(rng, [1, 3, 2, 2]) / 2], flags, domain=OWN, constants=2)
    caches = [array(rng, [6, 2]) for _ in range(2)]
    places = pick(rng, np.array([1], np.int64), rng.integers(0, 6, [2, 3]))
    return (
        Op(name, [x, places, *caches], {"interleaved": int(rng.integers(2)), "num_heads": 0}, domain=OWN, constants=2)
        if rng.random() < 0.5
        else Op(name, [array(rng, [2, 2, 3, 4]), places, *caches], {}, domain=OWN, constants=2)
    )


QUANTIZED: tuple[Callable[[Rng], Op], ...] = (quantize, quantized_product, quantized_conv, quantized_own, fused)
