"""The checker itself is checked: each kind of difference must make it fail."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

import portnet
from portnet import Model
from portnet.errors import InputError, ParityError, UnknownNameError, UnsupportedError
from portnet.parity.inputs import fitting_inputs, random_inputs
from portnet.parity.report import EMPTY, Comparison, Report, Tolerance, compare_arrays
from portnet.parity.sides import OnnxruntimeSide
from portnet.runtime.session import Session


def network(*, bias=0.0, width=3, middle="Relu", outputs=1, dtype=TensorProto.FLOAT):
    """Gemm → Relu → Gemm, with a difference on request."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.standard_normal((4, 5)).astype(np.float32), "first.weight"),
        numpy_helper.from_array(generator.standard_normal((5, width)).astype(np.float32), "second.weight"),
        numpy_helper.from_array(np.full(width, bias, np.float32), "second.bias"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first.weight"], ["a"], name="first"),
        helper.make_node(middle, ["a"], ["b"], name="activation"),
        helper.make_node("Gemm", ["b", "second.weight", "second.bias"], ["y"], name="second"),
    ]
    ports = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])]
    if outputs == 2:
        nodes.append(helper.make_node("Neg", ["y"], ["z"], name="extra"))
        ports.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", width]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "small", [x], ports, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return Model.from_bytes(model.SerializeToString())


def test_a_network_agrees_with_itself():
    report = portnet.check(network(), network())
    assert report.passed
    assert report.max_abs == 0
    assert [c.batch for c in report.comparisons] == ["random, batch 1", "random, batch 3"]
    assert report.comparisons[0].top1 == 1


def test_a_moved_bias_is_found_with_its_layer():
    report = portnet.check(network(bias=0.01), network())
    assert not report.passed
    assert report.max_abs == pytest.approx(0.01, rel=1e-3)
    assert report.first_divergence.startswith("second (Gemm)")
    with pytest.raises(ParityError, match="second"):
        report.raise_if_failed()


def test_the_first_of_several_differing_layers_is_named():
    report = portnet.check(network(middle="LeakyRelu"), network(middle="Relu"))
    assert report.first_divergence.startswith("activation")


def test_a_missing_output_fails():
    report = portnet.check(network(), network(outputs=2))
    assert not report.passed
    assert "outputs: got 1" in report.problems[0]


def test_another_width_fails_and_is_not_broadcast():
    assert not portnet.check(network(width=1), network(width=3)).passed


@pytest.mark.parametrize(
    ("got", "reference", "word"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32), "shape"),
        (np.zeros((2, 3), np.float64), np.zeros((2, 3), np.float32), "dtype"),
        (np.array([np.nan], np.float32), np.array([1], np.float32), "NaN"),
        (np.array([np.nan], np.float32), np.array([np.nan], np.float32), "NaN"),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), "empty"),
        (np.array([1.0], np.float32), np.array([1.01], np.float32), "off by"),
    ],
)
def test_each_kind_of_difference_is_a_problem(got, reference, word):
    assert word in compare_arrays("y", "", got, reference, Tolerance()).problem


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1 + 1e-5, True), (1.01, False), (0.0, False)])
def test_outputs_that_are_all_tiny_are_measured_against_their_largest(factor, agrees):
    reference = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32) * np.float32(1e-9)
    found = compare_arrays("y", "", reference * np.float32(factor), reference, Tolerance())
    assert bool(found.problem) is not agrees


def test_zeros_are_zeros():
    zeros = np.zeros((2, 5), np.float32)
    assert not compare_arrays("y", "", zeros, zeros, Tolerance()).problem


def test_nothing_compared_is_no_pass():
    report = portnet.check(network(), network(), batch_sizes=())
    assert not report.comparisons
    assert not report.passed


def test_nan_weights_do_not_pass():
    broken = network().with_weights({"second.bias": np.full(3, np.nan, np.float32)})
    assert not portnet.check(broken, broken).passed


@pytest.mark.parametrize("option", [{"top": 0}, {"batch_size": 0}])
def test_a_prediction_of_nothing_is_refused(option):
    session = portnet.load(portnet.zoo.load("squeezenet1_1", weights=None, size=32))
    with pytest.raises(InputError, match="expected at least 1"):
        session.predict(np.zeros((8, 8, 3), np.uint8), **option)


def test_what_cannot_be_checked_is_one_line():
    with pytest.raises(InputError, match=r"expected a Model, an \.onnx file"):
        portnet.check(42, network())


def test_a_part_of_a_side_is_that_tensor():
    side = OnnxruntimeSide(network()).at("b")
    result = side.run({"x": np.ones((1, 4), np.float32)})
    assert list(result) == ["b"]
    assert (result["b"] >= 0).all()


def test_random_inputs_are_as_long_as_the_network_wants_and_lengths_are_not_0():
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,T] x, float[2,M,3] state, int64[N] lengths) => (float[N,1] y, float[2,M,3] z) {
        at = Constant<value = int64 {300}>() r = Gather<axis = 1>(x, at) l = Cast<to = 1>(lengths) q = Div(r, l)
        one = Constant<value = int64[1] {1}>() y = Unsqueeze(q, one) z = Identity(state) }""")
    model = Model.from_bytes(proto.SerializeToString())
    inputs = fitting_inputs(model, 3, Session(model).run)
    assert inputs["x"].shape == (3, 576)
    assert inputs["state"].shape == (2, 3, 3)
    assert inputs["lengths"].tolist() == [1, 1, 1]


def test_an_empty_output_is_proved_by_other_batches_alone():
    """What a threshold keeps of random numbers may be nothing."""
    report = Report("a", "b", Tolerance())
    report.comparisons = [Comparison("y", "batch 1", EMPTY)]
    report.leave_out_empty()
    assert not report.passed
    assert not report.differs
    report.comparisons.append(Comparison("y", "batch 3", ""))
    report.leave_out_empty()
    assert report.passed
    assert len(report.comparisons) == 1


def test_the_other_side_runs_where_it_is_told_to():
    pytest.importorskip("portnet_torch")
    report = portnet.check("torch@cpu", network())
    assert (report.passed, report.a) == (True, "torch")
    report = portnet.check("onnxruntime@cpu", network())
    assert (report.passed, report.a) == (True, "onnxruntime cpu")
    with pytest.raises(UnsupportedError, match=r"got device 'cuda:77', expected one of [^.]*cpu$"):
        portnet.check(network(), "torch@cuda:77")
    with pytest.raises(UnknownNameError, match="unknown provider 'nonsense'"):
        portnet.check(network(), "onnxruntime@nonsense")
    with pytest.raises(InputError, match="'torch@cpu' needs a network on the other side, got 'onnxruntime'"):
        portnet.check("torch@cpu", "onnxruntime")


def test_a_framework_that_fails_while_it_runs_is_one_line(monkeypatch):
    pytest.importorskip("portnet_torch")
    model = parsed("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    lowered = portnet.engine("torch").lower(model)

    def fail(inputs):
        raise RuntimeError("sizes must match\nexcept in dimension 1")

    monkeypatch.setattr(lowered, "run", fail)
    with pytest.raises(ParityError, match=r"torch does not run: RuntimeError: sizes must match except in dimension 1"):
        portnet.check(lowered, model).raise_if_failed()


def test_inputs_of_any_declared_size_are_not_made_up():
    model = parsed("g (float[3,1,2147483647] x) => (float[3,1,2147483647] y) { y = Relu(x) }")
    with pytest.raises(InputError, match=r"input x: float32 3×1×2147483647, expected at most 268,435,456 numbers"):
        random_inputs(model, 1)


def parsed(text):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    return Model.from_bytes(proto.SerializeToString())


def test_cuda_is_the_first_device_of_that_name(monkeypatch):
    engine = pytest.importorskip("portnet_torch").Engine()
    monkeypatch.setattr(type(engine), "devices", lambda self: ["cuda:0", "cpu"])
    for device in ("cuda", "cuda:0", "cpu"):
        engine.check_device(device)
    with pytest.raises(UnsupportedError, match="got device 'cuda:1', expected one of cuda:0, cpu"):
        engine.check_device("cuda:1")
