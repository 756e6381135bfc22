"""One small network for each kind of layer, to check its gradients: Conv 1×1, the layer, Flatten, MatMul."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from portnet.graph.model import Model

__all__ = ["LAYERS", "layer_network"]

_CLASSES = 4
_HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
_Shapes = dict[str, tuple[int, ...]]

# name -> (nodes from h (N, 6, 4, 5) to y, shapes of their weights)
LAYERS: dict[str, tuple[str, _Shapes]] = {
    "Conv": (
        "y = Conv<group = 2, dilations = [2, 1], pads = [0, 1, 2, 1], strides = [1, 2]>(h, w, b)",
        {"w": (4, 3, 2, 3), "b": (4,)},
    ),
    "Conv depthwise, same": (
        'y = Conv<group = 6, auto_pad = "SAME_UPPER", strides = [2, 2]>(h, w)',
        {"w": (6, 1, 3, 3)},
    ),
    "Conv 1-D": (
        "s = Constant<value = int64[3] {0, 6, 20}>() r = Reshape(h, s) y = Conv<pads = [2, 0]>(r, w, b)",
        {"w": (3, 6, 3), "b": (3,)},
    ),
    "Conv 3-D": (
        "s = Constant<value = int64[5] {0, 2, 3, 4, 5}>() r = Reshape(h, s) y = Conv(r, w)",
        {"w": (3, 2, 2, 2, 3)},
    ),
    "ConvTranspose": (
        "y = ConvTranspose<strides = [2, 2], pads = [1, 0, 1, 1], output_padding = [1, 0]>(h, w, b)",
        {"w": (6, 2, 3, 3), "b": (2,)},
    ),
    "GroupNormalization": (
        "y = GroupNormalization<num_groups = 2, epsilon = 0.01>(h, s, b)",
        {"s": (6,), "b": (6,)},
    ),
    "InstanceNormalization": ("y = InstanceNormalization<epsilon = 0.01>(h, s, b)", {"s": (6,), "b": (6,)}),
    "LayerNormalization": ("y = LayerNormalization<axis = 2, epsilon = 0.01>(h, s, b)", {"s": (4, 5), "b": (4, 5)}),
    "PRelu": ("y = PRelu(h, s)", {"s": (6, 1, 1)}),
    "Gelu": ("y = Gelu(h)", {}),
    "HardSwish": ("y = HardSwish(h)", {}),
    "Elu": ("y = Elu<alpha = 1.5>(h)", {}),
    "Swish": ("g = Sigmoid(h) y = Mul(g, h)", {}),
    "Softplus": ("y = Softplus(h)", {}),
    "Clip": (
        "a = Constant<value = float {-0.5}>() b = Constant<value = float {0.7}>() y = Clip(h, a, b)",
        {},
    ),
    "Softmax": ("y = Softmax<axis = 1>(h)", {}),
    "LogSoftmax": ("y = LogSoftmax<axis = 2>(h)", {}),
    "MaxPool": ("y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [0, 1, 0, 1], ceil_mode = 1>(h)", {}),
    "AveragePool": ("y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1]>(h)", {}),
    "AveragePool, padding counts": (
        "y = AveragePool<kernel_shape = [3, 2], pads = [1, 1, 0, 0], count_include_pad = 1>(h)",
        {},
    ),
    "GlobalMaxPool": ("y = GlobalMaxPool(h)", {}),
    "LRN": ("y = LRN<size = 3, alpha = 0.1, beta = 0.6, bias = 1.2>(h)", {}),
    "Resize linear": (
        "e = Constant<value = float[0] {}>() s = Constant<value = float[4] {1, 1, 2, 2}>() "
        'y = Resize<mode = "linear">(h, e, s)',
        {},
    ),
    "Resize nearest": (
        "e = Constant<value = float[0] {}>() s = Constant<value = float[4] {1, 1, 2, 2}>() "
        'y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(h, e, s)',
        {},
    ),
    "Pad reflect": ('p = Constant<value = int64[8] {0, 0, 1, 2, 0, 0, 2, 0}>() y = Pad<mode = "reflect">(h, p)', {}),
    "Concat and Split": (
        "n = Constant<value = int64[2] {2, 4}>() a, b = Split<axis = 1>(h, n) e = Tanh(b) "
        "y = Concat<axis = 1>(e, a, b)",
        {},
    ),
    "Transpose and MatMul": ("t = Transpose<perm = [0, 2, 3, 1]>(h) y = MatMul(t, w)", {"w": (6, 3)}),
    "MatMul of two": ("t = Transpose<perm = [0, 1, 3, 2]>(h) y = MatMul(h, t)", {}),
    "Scale and shift": ("m = Mul(h, s) y = Add(m, b)", {"s": (6, 1, 1), "b": (1, 6, 1, 1)}),
    "ReduceMean": ("a = Constant<value = int64[2] {2, 3}>() y = ReduceMean<keepdims = 0>(h, a)", {}),
    "DepthToSpace": (
        "s = Constant<value = int64[4] {0, 24, 1, 5}>() r = Reshape(h, s) "
        'y = DepthToSpace<blocksize = 2, mode = "CRD">(r)',
        {},
    ),
    "LSTM": (
        "s = Constant<value = int64[3] {0, 6, 20}>() r = Reshape(h, s) t = Transpose<perm = [1, 0, 2]>(r) "
        "a, c = LSTM<hidden_size = 3>(t, w, u, b) y = Transpose<perm = [2, 0, 1, 3]>(a)",
        {"w": (1, 12, 20), "u": (1, 12, 3), "b": (1, 24)},
    ),
    "GRU": (
        "s = Constant<value = int64[3] {0, 6, 20}>() r = Reshape(h, s) t = Transpose<perm = [1, 0, 2]>(r) "
        "a, c = GRU<hidden_size = 3, linear_before_reset = 1>(t, w, u, b) y = Transpose<perm = [2, 0, 1, 3]>(a)",
        {"w": (1, 9, 20), "u": (1, 9, 3), "b": (1, 18)},
    ),
}


def layer_network(name: str) -> Model:
    """Return the network around layer ``name`` of `LAYERS`: x (N, 6, 4, 5) → logits (N, 4), seeded float32 weights.

    Its initializers are ``pre`` (the Conv before the layer), the layer's own, and ``head`` (the MatMul behind it).
    """
    nodes, shapes = LAYERS[name]
    body = f"h = Conv(x, pre) {nodes}"
    shapes = {"pre": (6, 6, 1, 1), **shapes}
    flat = _flat_size(body, shapes)
    return _model(f"{body} f = Flatten(y) logits = MatMul(f, head)", {**shapes, "head": (flat, _CLASSES)}, "logits")


def _flat_size(body: str, shapes: _Shapes) -> int:
    """Return the count of scalars that ``y`` has for each example."""
    feeds = {name: np.zeros(shape, np.float32) for name, shape in {"x": (1, 6, 4, 5), **shapes}.items()}
    results: Any = ReferenceEvaluator(_proto(body, shapes, "y")).run(None, feeds)
    return int(results[0].size)


def _model(body: str, shapes: _Shapes, output: str) -> Model:
    proto = _proto(body, shapes, output)
    generator = np.random.default_rng(5)
    arrays = {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    given = [port for port in proto.graph.input if port.name not in shapes]
    del proto.graph.input[:]
    proto.graph.input.extend(given)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", _CLASSES]))
    onnx.checker.check_model(proto, full_check=True)
    return Model.from_bytes(proto.SerializeToString())


def _proto(body: str, shapes: _Shapes, output: str) -> onnx.ModelProto:
    ports = ["float[N,6,4,5] x", *(f"float[{','.join(map(str, s))}] {n}" for n, s in shapes.items())]
    return onnx.parser.parse_model(f"{_HEADER} layer ({', '.join(ports)}) => ({output}) {{ {body} }}")
