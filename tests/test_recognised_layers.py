"""Layers that exporters take apart are layers again, and stay channels last on Keras."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

import portnet
from portnet.graph.model import Model
from portnet.runtime.session import Session

RNG = np.random.default_rng(5)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def parse(text, **weights):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return Model.from_bytes(proto.SerializeToString())


def lowered(engine, model, *feeds):
    pytest.importorskip(f"portnet_{engine}")
    network, session = portnet.engine(engine).lower(model), Session(model)
    for x in feeds:
        for name, expected in session.run({"x": x}).items():
            np.testing.assert_allclose(network.run({"x": x})[name], expected, rtol=1e-4, atol=1e-4)
    network.check_trainable_count()
    return network


def kinds(network):
    """Return the native layers' classes."""
    if network.engine == "keras":
        return [type(layer).__name__ for layer in network.native.layers]
    return [type(module).__name__ for module in network.native.modules()]


TURNED = """g (float[N,T,4] x) => (float[N,T,2] y) { a = Transpose<perm = [1, 0]>(w) p = MatMul(x, a) h = Add(b, p)
    r = Relu(h) c = Transpose(v) y = MatMul(r, c) }"""


@pytest.mark.parametrize(("engine", "kind"), [("torch", "Linear"), ("keras", "Dense")])
def test_a_matrix_that_is_turned_for_a_product_is_a_dense_layers(engine, kind):
    model = parse(TURNED, w=floats(3, 4), b=floats(3), v=floats(2, 3))
    network = lowered(engine, model, floats(2, 5, 4), floats(1, 3, 4))
    assert kinds(network).count(kind) == 2
    weights = {name: array + 1 for name, array in model.weights().items()}
    network.set_weights(weights)
    for name, array in network.weights().items():
        np.testing.assert_array_equal(array, weights[name])
    x = floats(2, 3, 4)
    expected = Session(model.with_weights(weights)).run({"x": x})["y"]
    np.testing.assert_allclose(network.run({"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
def test_a_turned_matrix_that_others_read_is_no_layers(engine):
    text = """g (float[N,4] x) => (float[N,3] y, float[4,3] z) { z = Transpose(w) y = MatMul(x, z) }"""
    lowered(engine, parse(text, w=floats(3, 4)), floats(2, 4))


GROUPS = """g (float[N,6,H,W] x) => (float[N,6,H,W] y) {{ c = Conv<pads = [1,1,1,1]>(x, k)
    one = Constant<value = float[3] {{1, 1, 1}}>() none = Constant<value = float[3] {{0, 0, 0}}>()
    apart = Constant<value = int64[3] {{0, 3, -1}}>() r = Reshape(c, apart) s = Shape(c)
    n = InstanceNormalization<epsilon = 0.001>(r, one, none) back = Reshape(n, s)
    axes = Constant<value = int64[2] {{1, 2}}>() {affine} }}"""
SPREAD = "v = Unsqueeze(w, axes) m = Mul(back, v) u = Unsqueeze(b, axes) y = Add(m, u)"


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
@pytest.mark.parametrize(
    ("affine", "weights"),
    [
        (SPREAD, {"w": floats(6), "b": floats(6)}),
        ("m = Mul(back, w) y = Add(m, b)", {"w": floats(6, 1, 1), "b": floats(6, 1, 1)}),
        ("y = Identity(back)", {}),
    ],
)
def test_groups_that_were_reshaped_are_normalised_by_a_layer(engine, affine, weights):
    model = parse(GROUPS.format(affine=affine), k=floats(6, 6, 3, 3), **weights)
    network = lowered(engine, model, floats(2, 6, 5, 4), floats(1, 6, 3, 7))
    ops = [node.op_type for node in network.model.ir.graph]
    if engine != "gluon":
        assert "Reshape" not in ops
        assert "GroupNorm" in kinds(network) or "GroupNormalization" in kinds(network)
    if engine == "keras":
        assert not [made.name for made in network.native.operations if "ranspose" in type(made).__name__]


def test_groups_of_other_sizes_are_left_as_they_are():
    # what comes back has other channels than what was taken apart
    text = """g (float[2,6,4] x) => (float[2,4,6] y) { one = Constant<value = float[3] {1, 1, 1}>()
        none = Constant<value = float[3] {0, 0, 0}>() apart = Constant<value = int64[3] {0, 3, -1}>()
        r = Reshape(x, apart) n = InstanceNormalization(r, one, none) s = Constant<value = int64[3] {2, 4, 6}>()
        y = Reshape(n, s) }"""
    ops = [node.op_type for node in parse(text).canonical().ir.graph]
    assert "GroupNormalization" not in ops


def test_an_image_that_is_cut_into_channels_comes_channels_last():
    pytest.importorskip("portnet_keras")
    text = """g (float[N,3,8,6] x) => (float[N,4,4,3] y) { zero = Constant<value = int64[1] {0}>()
        one = Constant<value = int64[1] {1}>() far = Constant<value = int64[1] {9223372036854775807}>()
        two = Constant<value = int64[1] {2}>() h = Constant<value = int64[1] {2}>() w = Constant<value = int64[1] {3}>()
        e = Slice(x, zero, far, h, two) o = Slice(x, one, far, h, two) a = Slice(e, zero, far, w, two)
        b = Slice(o, zero, far, w, two) c = Slice(e, one, far, w, two) d = Slice(o, one, far, w, two)
        j = Concat<axis = 1>(a, b, c, d) y = Conv<pads = [1,1,1,1]>(j, k) }"""
    network = lowered("keras", parse(text, k=floats(4, 12, 3, 3)), floats(2, 3, 8, 6))
    assert network.native.inputs[0].shape == (None, 8, 6, 3)
    assert not [made.name for made in network.native.operations if "ranspose" in type(made).__name__]
