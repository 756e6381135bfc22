"""The form for deployment: same outputs in onnxruntime, less to compute, names kept, the original untouched."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from portnet import zoo
from portnet.graph.deploy import deploy
from portnet.graph.model import Model


def network(body: str, shapes: dict[str, tuple[int, ...]], shape="N, 4, 9, 8", output="y") -> Model:
    rng = np.random.default_rng(0)
    graph = onnx.parser.parse_graph(f"net (float[{shape}] x) => (float[] {output}) {{ {body} }}")
    for name, sizes in shapes.items():
        array = rng.standard_normal(sizes).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(np.abs(array) + 0.5 if name.startswith("v") else array, name))
    graph.output[0].CopyFrom(helper.make_empty_tensor_value_info(output))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return Model.from_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.ir.graph]


def outputs(model: Model, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


NORM = {"g": (6,), "b": (6,), "m": (6,), "v": (6,)}
FOLDED = {
    "a convolution": ("c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)", {"w": (6, 4, 3, 3), **NORM}),
    "with a bias": ("c = Conv(x, w, k) y = BatchNormalization(c, g, b, m, v)", {"w": (6, 4, 3, 3), "k": (6,), **NORM}),
    "in groups": ("c = Conv<group=2>(x, w) y = BatchNormalization(c, g, b, m, v)", {"w": (6, 2, 3, 3), **NORM}),
    "transposed": (
        "c = ConvTranspose(x, w) y = BatchNormalization<epsilon=0.01>(c, g, b, m, v)",
        {"w": (4, 6, 3, 3), **NORM},
    ),
    "transposed, in groups": (
        "c = ConvTranspose<group=2>(x, w) y = BatchNormalization(c, g, b, m, v)",
        {"w": (4, 3, 3, 3), **NORM},
    ),
    "a dense layer": (
        "p = GlobalAveragePool(x) f = Flatten(p) c = Gemm<transB=1>(f, w) y = BatchNormalization(c, g, b, m, v)",
        {"w": (6, 4), **NORM},
    ),
    "a dense layer the other way": (
        "p = GlobalAveragePool(x) f = Flatten(p) c = Gemm(f, w, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": (4, 6), "k": (6,), **NORM},
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_norm_is_folded_into_the_layer_before_it(name):
    model = network(*FOLDED[name])
    folded = deploy(model)
    assert "BatchNormalization" not in ops(folded)
    assert "BatchNormalization" in ops(model)
    assert [port.name for port in folded.outputs] == ["y"]
    assert "w" in folded.weights()
    x = image(2, 4, 9, 8)
    np.testing.assert_allclose(outputs(folded, x)[0], outputs(model, x)[0], rtol=1e-4, atol=1e-5)


KEPT = {
    "a map that others read": (
        "c = Conv(x, w) n = BatchNormalization(c, g, b, m, v) y = Add(c, n)",
        {"w": (6, 4, 3, 3), **NORM},
    ),
    "no layer before it": ("n = BatchNormalization(x, g, b, m, v) y = Relu(n)", dict.fromkeys("gbmv", (4,))),
    "a rectifier between": (
        "c = Conv(x, w) r = Relu(c) y = BatchNormalization(r, g, b, m, v)",
        {"w": (6, 4, 3, 3), **NORM},
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_norm_that_cannot_be_folded_stays(name):
    model = network(*KEPT[name])
    folded = deploy(model)
    assert ops(folded) == ops(model)
    x = image(2, 4, 9, 8)
    np.testing.assert_allclose(outputs(folded, x)[0], outputs(model, x)[0], rtol=1e-5, atol=1e-6)


def test_a_kernel_that_two_layers_share_is_folded_for_one_alone():
    body = "c = Conv(x, w) n = BatchNormalization(c, g, b, m, v) d = Conv(x, w) y = Add(n, d)"
    model = network(body, {"w": (6, 4, 3, 3), **NORM})
    folded = deploy(model)
    x = image(1, 4, 9, 8)
    np.testing.assert_allclose(outputs(folded, x)[0], outputs(model, x)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(folded.weights()["w"], model.weights()["w"])


def test_dropout_goes_and_the_output_keeps_its_name():
    model = network("r = Relu(x) y = Dropout(r)", {})
    folded = deploy(model)
    assert ops(folded) == ["Relu"]
    assert [port.name for port in folded.outputs] == ["y"]


def test_weights_are_those_of_a_hand_calculation():
    model = network("c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)", {"w": (6, 4, 3, 3), **NORM})
    w, g, b, m, v = (model.weights()[name].astype(np.float64) for name in "wgbmv")
    factor = g / np.sqrt(v + np.float32(1e-5))
    kernel, bias = deploy(model).weights().values()
    np.testing.assert_allclose(kernel, w * factor[:, None, None, None], rtol=1e-6)
    np.testing.assert_allclose(bias, b - m * factor, rtol=1e-5, atol=1e-6)


def test_every_network_of_the_zoo_gives_the_same_logits():
    for name in zoo.names():
        model = zoo.load(name, None, size=64)
        x = image(2, 3, 64, 64)
        folded = deploy(model)
        expected, got = (
            onnxruntime.InferenceSession(m.to_bytes(), providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
            for m in (model, folded)
        )
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        assert len(folded.ir.graph) <= len(model.ir.graph)
