"""Builders where MXNet's meaning differs from ONNX's, or where a batch must stay free."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from portnet.graph.model import Model
from portnet.parity.check import check


def lower(engine, nodes, inputs, outputs, constants=None):
    """Lower a graph; ``inputs`` and ``outputs`` are name -> (ONNX type, shape)."""
    ports = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", *ports, initializers), opset_imports=[helper.make_opsetid("", 22)], ir_version=10
    )
    return engine.lower(Model.from_bytes(proto.SerializeToString()))


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def test_reshape_and_expand_keep_the_batch_free(engine):
    """Shape → Gather → Concat → Reshape, then Expand to the batch: what exporters write."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "tail"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
        helper.make_node("Concat", ["n", "one"], ["wide"], axis=0),
        helper.make_node("Expand", ["row", "wide"], ["e"]),
        helper.make_node("ConstantOfShape", ["n"], ["zeros"]),
    ]
    constants = {
        "zero": np.array([0]),
        "tail": np.array([3, -1]),
        "one": np.array([5]),
        "row": np.arange(5, dtype=np.float32)[None],
    }
    outputs = {"y": (FLOAT, None), "e": (FLOAT, None), "zeros": (FLOAT, None)}
    lowered = lower(engine, nodes, {"x": (FLOAT, ("N", 6, 2))}, outputs, constants)
    for size in (1, 2, 7):
        x = np.random.default_rng(size).normal(size=(size, 6, 2)).astype(np.float32)
        y, e, zeros = lowered.predict(x)
        np.testing.assert_array_equal(y, x.reshape(size, 3, -1))
        np.testing.assert_array_equal(e, np.tile(constants["row"], (size, 1)))
        np.testing.assert_array_equal(zeros, np.zeros(size, np.float32))


def test_sizes_become_data_as_they_are_when_the_network_runs(engine):
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Mul", ["s", "s"], ["y"])]
    lowered = lower(engine, nodes, {"x": (FLOAT, ("N", 3))}, {"y": (INT64, [2])})
    for size in (1, 4):
        np.testing.assert_array_equal(lowered.predict(np.zeros((size, 3), np.float32)), [size * size, 9])


def test_int64_is_exact_beyond_what_float32_holds(engine):
    nodes = [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Mul", ["s", "b"], ["y"])]
    ports = {"a": (INT64, [2]), "b": (INT64, [2])}
    a, b = np.array([2**40 + 1, -5]), np.array([3, 2**31 + 7])
    np.testing.assert_array_equal(lower(engine, nodes, ports, {"y": (INT64, [2])}).predict(a, b), (a + b) * b)


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_integer_division_cannot_end_the_process(engine, op):
    node = helper.make_node(op, ["a", "b"], ["y"])
    kind = TensorProto.INT32
    a = np.array([7, -7, 7, np.iinfo(np.int32).min, 5], np.int32)
    b = np.array([2, 2, -2, -1, 0], np.int32)
    y = lower(engine, [node], {"a": (kind, [5]), "b": (kind, [5])}, {"y": (kind, [5])}).predict(a, b)
    expected = {"Div": [3, -3, -3], "Mod": [1, 1, -1]}[op]
    np.testing.assert_array_equal(y[:3], expected)


@pytest.mark.parametrize(
    ("kind", "name"), [(TensorProto.UINT16, "uint16"), (TensorProto.INT16, "int16"), (TensorProto.UINT32, "uint32")]
)
def test_carried_integers_wrap_as_theirs_do(engine, kind, name):
    nodes = [helper.make_node("Mul", ["a", "b"], ["p"]), helper.make_node("Sub", ["p", "b"], ["y"])]
    info = np.iinfo(name)
    a, b = np.array([info.max, info.max, 3], name), np.array([info.max, 2, 5], name)
    y = lower(engine, nodes, {"a": (kind, [3]), "b": (kind, [3])}, {"y": (kind, [3])}).predict(a, b)
    assert y.dtype == name
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, a * b - b)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats_round_as_ml_dtypes_rounds(engine, name):
    import ml_dtypes  # noqa: F401 - registers the names with numpy

    kinds = {"bfloat16": 16, "float16": 10, "float8_e4m3fn": 17, "float8_e5m2": 19}
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=kinds[name], saturate=0),
        helper.make_node("Cast", ["n"], ["y"], to=FLOAT),
    ]
    rng = np.random.default_rng(0)
    powers = np.float32(2.0) ** np.arange(-20, 9, dtype=np.float32)
    x = np.concatenate([powers, -powers, np.nextafter(powers, 0), powers * rng.uniform(1, 2, powers.size)])
    x = np.concatenate([x, [0, -0.0, np.inf, -np.inf, np.nan]]).astype(np.float32)
    y = lower(engine, nodes, {"x": (FLOAT, [x.size])}, {"y": (FLOAT, [x.size])}).predict(x)
    np.testing.assert_array_equal(y, x.astype(name).astype(np.float32))


def test_nan_passes_through_relu_and_pooling(engine):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    lowered = lower(engine, nodes, {"x": (FLOAT, ("N", 1, 4, 4))}, {"y": (FLOAT, None)})
    x = np.ones((1, 1, 4, 4), np.float32)
    np.testing.assert_array_equal(lowered.predict(x), np.ones((1, 1, 2, 2)))
    x[0, 0, 0, 0] = np.nan
    np.testing.assert_array_equal(lowered.predict(x), [[[[np.nan, 1], [1, 1]]]])


def test_last_window_of_ceil_mode_never_starts_in_the_padding(engine):
    """MXNet's own 'full' convention would give three windows an axis."""
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
    )
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    y = lower(engine, [node], {"x": (FLOAT, (1, 1, 4, 4))}, {"y": (FLOAT, None)}).predict(x)
    np.testing.assert_array_equal(y, [[[[0, 3], [12, 15]]]])


def test_recurrent_sequences_of_any_length(engine):
    """MXNet's fused operator keeps time and batch free; the standard's evaluator is the oracle."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(2, 12, 4)).astype(np.float32),
        "r": rng.normal(size=(2, 12, 3)).astype(np.float32),
        "b": rng.normal(size=(2, 24)).astype(np.float32),
    }
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], hidden_size=3, direction="bidirectional")
    outputs = dict.fromkeys(("y", "h", "c"), (FLOAT, None))
    lowered = lower(engine, [node], {"x": (FLOAT, ("T", "N", 4))}, outputs, weights)
    assert lowered.trainable_count == sum(array.size for array in weights.values())
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.ModelProto.FromString(lowered.model.to_bytes()))
    for steps, size in ((1, 1), (5, 2), (3, 4)):
        x = rng.normal(size=(steps, size, 4)).astype(np.float32)
        for got, expected in zip(lowered.predict(x), evaluator.run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_asymmetric_padding_of_a_convolution(engine):
    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[0, 0, 1, 1])
    lowered = lower(engine, [node], {"x": (FLOAT, ("N", 3, 6, 6))}, {"y": (FLOAT, None)}, {"w": weight})
    from onnx.reference import ReferenceEvaluator

    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    expected = ReferenceEvaluator(onnx.ModelProto.FromString(lowered.model.to_bytes())).run(None, {"x": x})[0]
    np.testing.assert_allclose(lowered.predict(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Slice", ["c", "one", "three", "one"], ["y"]),
        helper.make_node("AveragePool", ["c"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    ],
    ids=["channels", "uneven windows"],
)
def test_what_a_convolution_returns_is_cut_within_onednn_s_blocks(engine, node):
    """oneDNN's own slice fails at channels that are no whole block of 8, or ends the process."""
    convolution = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
    weight = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    constants = {"w": weight, "one": np.array([1]), "three": np.array([3])}
    ports = {"x": (FLOAT, ("N", 3, 16, 16))}, {"y": (FLOAT, None)}
    lowered = lower(engine, [convolution, node], *ports, constants)
    assert check(lowered, lowered.model).passed
