"""onnxruntime's own ops, said in standard ops: onnxruntime itself is the oracle."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import portnet
from portnet.graph.model import Model

SCALES = "float sa = {0.1}, float sb = {0.2}, float sy = {0.3}, uint8 za = {3}, uint8 zb = {5}, uint8 zy = {7}"
# name: inputs, initializers, body
CASES = {
    "Gelu": ("float[2,4] x", "", "y = com.microsoft.Gelu(x)"),
    "BiasGelu": ("float[2,4] x", "float[4] b = {1,2,3,4}", "y = com.microsoft.BiasGelu(x, b)"),
    "FastGelu": ("float[2,4] x", "float[4] b = {1,2,3,4}", "y = com.microsoft.FastGelu(x, b)"),
    "QuickGelu": ("float[2,4] x", "", "y = com.microsoft.QuickGelu<alpha = 1.5>(x)"),
    "FusedConv": (
        "float[1,1,4,4] x",
        "float[1,1,2,2] w = {1,2,3,4}, float[1] b = {-1}",
        'y = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.3], pads = [1,0,0,1]>(x, w, b)',
    ),
    "FusedGemm": (
        "float[2,4] x",
        "float[3,4] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[3] b = {1,2,3}",
        'y = com.microsoft.FusedGemm<activation = "Relu", transB = 1>(x, w, b)',
    ),
    "FusedMatMul": (
        "float[2,3,4] x",
        "",
        "y = com.microsoft.FusedMatMul<alpha = 0.5, transB = 1>(x, x)",
    ),
    "SkipLayerNormalization": (
        "float[1,2,4] x, float[1,2,4] s",
        "float[4] g = {1,2,3,4}, float[4] b = {4,3,2,1}",
        "y, , , z = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(x, s, g, b)",
    ),
    "SkipSimplifiedLayerNormalization": (
        "float[1,2,4] x, float[1,2,4] s",
        "float[4] g = {1,2,3,4}",
        "y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 0.001>(x, s, g)",
    ),
    "SimplifiedLayerNormalization": (
        "float[2,4] x",
        "float[4] g = {1,2,3,4}",
        "y = SimplifiedLayerNormalization<epsilon = 0.001, axis = -1>(x, g)",
    ),
    "QLinearAdd": ("uint8[2,4] x", SCALES, "y = com.microsoft.QLinearAdd(x, sa, za, x, sb, zb, sy, zy)"),
    "QLinearMul": ("uint8[2,4] x", SCALES, "y = com.microsoft.QLinearMul(x, sa, za, x, sb, zb, sy, zy)"),
    "QLinearSigmoid": ("uint8[2,4] x", SCALES, "y = com.microsoft.QLinearSigmoid(x, sa, za, sy, zy)"),
    "QLinearGlobalAveragePool": (
        "uint8[1,2,3,3] x",
        SCALES,
        "y = com.microsoft.QLinearGlobalAveragePool(x, sa, za, sy, zy)",
    ),
    "QLinearConcat": (
        "uint8[2,4] x",
        SCALES,
        "y = com.microsoft.QLinearConcat<axis = 1>(sy, zy, x, sa, za, x, sb, zb)",
    ),
    "QGemm": (
        "uint8[2,4] x",
        SCALES + ", uint8[3,4] w = {1,2,3,4,5,6,7,8,9,1,2,3}, int32[3] b = {100,-200,300}",
        "y = com.microsoft.QGemm<transB = 1, alpha = 0.5>(x, sa, za, w, sb, zb, b, sy, zy)",
    ),
    "QGemm to float": (
        "uint8[2,4] x",
        "uint8[4,3] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float s = {0.1}, float[3] t = {0.1,0.2,0.3}, "
        "uint8 z = {3}, uint8[3] o = {1,2,3}",
        "y = com.microsoft.QGemm(x, s, z, w, t, o)",
    ),
    "DynamicQuantizeMatMul": (
        "float[2,4] x",
        "uint8[4,2] w = {1,2,3,4,5,6,7,8}, float s = {0.1}, uint8 z = {3}",
        "y = com.microsoft.DynamicQuantizeMatMul(x, w, s, z)",
    ),
    "MatMulIntegerToFloat": (
        "uint8[2,4] x",
        "uint8[4,2] w = {1,2,3,4,5,6,7,8}, float s = {0.1}, float t = {0.2}, uint8 z = {3}, float[2] b = {1,2}",
        "y = com.microsoft.MatMulIntegerToFloat(x, w, s, t, z, z, b)",
    ),
    "ExpandDims": ("float[2,4] x", "int32 a = {1}", "y = com.microsoft.ExpandDims(x, a)"),
}


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def parse(inputs: str, initializers: str, body: str) -> onnx.ModelProto:
    imports = 'ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]'
    outputs = "float y, float z" if " z =" in body else "float y"
    proto = onnx.parser.parse_model(f"<{imports}> g ({inputs}) => ({outputs}) <{initializers}> {{ {body} }}")
    for output in proto.graph.output:
        output.ClearField("type")
    return proto


def random_inputs(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng, feeds = np.random.default_rng(0), {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        array = rng.uniform(-2, 2, [dim.dim_value for dim in tensor.shape.dim])
        feeds[value.name] = (array * 60 + 128 if tensor.elem_type == onnx.TensorProto.UINT8 else array).astype(
            onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        )
    return feeds


@pytest.mark.parametrize("name", CASES)
def test_standard_ops_compute_the_same(name):
    proto = parse(*CASES[name])
    model = Model.from_bytes(proto.SerializeToString()).canonical()
    assert all(node.domain == "" and node.op_type != "SimplifiedLayerNormalization" for node in model.ir.graph)
    feeds = random_inputs(proto)
    for before, after in zip(run(proto, feeds), run(onnx.ModelProto.FromString(model.to_bytes()), feeds), strict=True):
        assert before.dtype == after.dtype
        # a quantized result may be rounded to its neighbour
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1 if before.dtype == np.uint8 else 1e-5)


def test_fused_weights_are_parameters():
    model = Model.from_bytes(parse(*CASES["FusedConv"]).SerializeToString())
    assert model.parameter_count == model.canonical().parameter_count == 5


def test_what_the_engine_has_stays():
    proto = parse(*CASES["Gelu"])
    model = Model.from_bytes(proto.SerializeToString()).canonical(frozenset({"com.microsoft.Gelu"}))
    assert [node.domain for node in model.ir.graph] == ["com.microsoft"]


def test_what_standard_ops_cannot_say_stays():
    proto = parse("float[2,3,4] x", "", "y = com.microsoft.FusedMatMul<transBatchA = 1>(x, x)")
    model = Model.from_bytes(proto.SerializeToString()).canonical()
    assert [node.op_type for node in model.ir.graph] == ["FusedMatMul"]


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_quantized_lstm_is_a_scan(direction):
    pytest.importorskip("portnet_torch")
    count, hidden, rng = 1 + (direction == "bidirectional"), 4, np.random.default_rng(0)
    weights = {
        "w": rng.integers(-127, 128, (count, 3, 4 * hidden), np.int8),
        "r": rng.integers(-127, 128, (count, hidden, 4 * hidden), np.int8),
        "b": rng.uniform(-1, 1, (count, 8 * hidden)).astype(np.float32),
        "h": rng.uniform(-1, 1, (count, 1, hidden)).astype(np.float32),
        **{name: np.full(count, 0.02, np.float32) for name in ("ws", "rs")},
        **{name: np.zeros(count, np.int8) for name in ("wz", "rz")},
    }
    node = onnx.helper.make_node(
        "DynamicQuantizeLSTM",
        ["x", "w", "r", "b", "", "h", "", "", "ws", "wz", "rs", "rz"],
        ["y", "yh", "yc"],
        domain="com.microsoft",
        direction=direction,
        hidden_size=hidden,
    )
    values = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["T", 1, 3])]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph([node], "g", values, outputs, tensors)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    lowered = portnet.engine("torch").lower(Model.from_bytes(proto.SerializeToString()))
    for steps in (5, 1):
        feeds = {"x": rng.uniform(-2, 2, (steps, 1, 3)).astype(np.float32)}
        for got, expected in zip(lowered.run(feeds).values(), run(proto, feeds), strict=True):
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, atol=1e-5)


def quantized_softmax(kind, shape, scales, zero, **attributes):
    arrays = {
        "sx": np.float32(scales[0]),
        "zx": np.array(5, kind),
        "sy": np.float32(scales[1]),
        "zy": zero.astype(kind),
    }
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    node = onnx.helper.make_node("QLinearSoftmax", ["x", *arrays], ["y"], domain="com.microsoft", **attributes)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    ports = [[onnx.helper.make_tensor_value_info(name, element, shape)] for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", *ports, tensors)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        (("N", 8), {"opset": 13}),
        (("N", 4, 3), {"opset": 13, "axis": 1}),
        (("N", 4, 3), {"opset": 12, "axis": 1}),
        (("N", 4, 3), {"opset": 12}),
        ((5, 400), {"opset": 12, "axis": -1}),
    ],
)
def test_a_quantized_softmax_rounds_as_onnxruntime_does(engine, shape, attributes):
    pytest.importorskip(f"portnet_{engine}")
    rng = np.random.default_rng(0)
    for kind, scales, zero in (("uint8", (0.3, 0.3), 7), ("int8", (0.1, 1 / 256), -128), ("uint8", (0.02, 0.0011), 0)):
        proto = quantized_softmax(kind, shape, scales, np.array(zero), **attributes)
        lowered = portnet.engine(engine).lower(Model.from_bytes(proto.SerializeToString()))
        info = np.iinfo(kind)
        x = rng.integers(info.min, info.max + 1, (2000 if shape[0] == "N" else shape[0], *shape[1:])).astype(kind)
        x[:3] = x[:3, :1]
        np.testing.assert_array_equal(lowered.run({"x": x})["y"], run(proto, {"x": x})[0])


@pytest.mark.parametrize(("shape", "scale"), [(("N", "M"), 0.1), (("N", 4), float("inf")), (("N", 0), 0.1)])
def test_a_quantized_softmax_of_unknown_count_stays(shape, scale):
    proto = quantized_softmax("uint8", shape, (scale, 0.1), np.array(0), opset=13)
    model = Model.from_bytes(proto.SerializeToString()).canonical()
    assert [node.op_type for node in model.ir.graph] == ["QLinearSoftmax"]


def test_what_was_laid_out_for_one_processor_is_refused_with_the_level_that_is_not():
    pytest.importorskip("portnet_torch")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], "blocked", domain="com.microsoft.nchwc")
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8, 4, 4]) for name in ("x", "y")]
    weight = onnx.numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft.nchwc", 1)]
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    with pytest.raises(portnet.errors.UnsupportedError, match=r"node 'blocked': .* the level ORT_ENABLE_EXTENDED$"):
        portnet.engine("torch").lower(Model.from_bytes(proto.SerializeToString()))
