"""The rules for common ops against the standard's own inference."""

from __future__ import annotations

import itertools

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from portnet import Model
from portnet.errors import PortNetError
from portnet.graph import canonical as form
from portnet.graph.passes.plain_rules import RULES
from portnet.graph.passes.plain_shapes import infer_plain_shapes
from portnet.graph.passes.shapes import infer_shapes
from portnet.graph.passes.sizes import name_sizes
from portnet.testing.cases import cases


def _shapes(model: ir.Model) -> dict:
    return {
        output.name: (output.dtype, None if output.shape is None else [getattr(n, "value", n) for n in output.shape])
        for node in model.graph
        for output in node.outputs
        if output.name
    }


@pytest.fixture
def compare(monkeypatch):
    """Return a function that brings a model to canonical form and says how often the rules answered."""
    answers = []

    def both(model: ir.Model) -> None:
        plain = model.clone()
        answers.append(infer_plain_shapes(plain))
        infer_shapes(model)
        name_sizes(model)
        if answers[-1]:
            assert _shapes(plain) == _shapes(model)

    monkeypatch.setattr(form, "_infer", both)

    def run(model: Model) -> int:
        answers.clear()
        model.canonical()
        return sum(answers)

    return run


@pytest.mark.parametrize("kind", ["node", "pytorch-converted", "pytorch-operator", "simple"])
def test_what_the_rules_answer_is_what_the_standard_infers(compare, kind):
    answered = 0
    for case in cases(kind):
        if case.op not in RULES and kind == "node":
            continue
        try:
            answered += bool(compare(Model.from_bytes(case.load()[0].SerializeToString())))
        except PortNetError:
            continue
    assert answered >= {"node": 300, "pytorch-converted": 60, "pytorch-operator": 10, "simple": 1}[kind]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "Conv"])
def test_windows_of_every_kind(compare, op):
    axes = itertools.product((5, 6, 7, 8), (2, 3), (1, 2, 3), ([0, 0], [1, 0], [0, 1], [1, 1]), (1, 2), (0, 1))
    nodes, answered = [], 0
    for size, kernel, stride, pads, dilation, ceil in axes:
        options = {"kernel_shape": [kernel], "strides": [stride], "pads": pads, "dilations": [dilation]}
        if op != "Conv":
            options["ceil_mode"] = ceil
        nodes = [helper.make_node(op, ["x", "w"] if op == "Conv" else ["x"], ["y"], **options)]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, size])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        weights = [numpy_helper.from_array(np.zeros((4, 2, kernel), np.float32), "w")] if op == "Conv" else []
        graph = helper.make_graph(nodes, "g", [x], [y], weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        answered += compare(Model.from_bytes(proto.SerializeToString()))
    assert answered > 300


def test_what_no_rule_can_tell_is_left_as_it_was():
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[N,8] x, float[M,8] z) => (float[K,8] y)
        { r = Relu(x) y = Add(r, z) }"""
    )
    model = Model.from_bytes(proto.SerializeToString()).ir
    before = _shapes(model)
    assert not infer_plain_shapes(model)
    assert _shapes(model) == before


@pytest.mark.parametrize(
    "text",
    [
        "x2 = Reshape(x, a) y = Transpose<perm = [0, 2, 1, 3]>(x2)",
        "s = Shape(x) i = Constant<value_int = 1>() t = Gather(s, i) u = Unsqueeze(t, zero)"
        " v = Concat<axis = 0>(u, m, eight) y = Reshape(x, v)",
        "s = Shape<start = 1, end = 3>(x) v = Concat<axis = 0>(m, s) y = Reshape(x, v)",
        "q = ReduceMean<keepdims = 0>(x, m) y = Add(q, q)",
        "l, r = Split<axis = 2, num_outputs = 2>(x) y = Concat<axis = -1>(r, l)",
        "s = Slice(x, zero, four, two) y = Relu(s)",
    ],
)
def test_sizes_that_pass_through(compare, text):
    graph = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[N,T,8] x) => (float[P,Q,R] y)
        <int64[4] a = {{0, -1, 2, 4}}, int64[1] zero = {{0}}, int64[1] m = {{-1}}, int64[1] two = {{2}},
        int64[1] four = {{4}}, int64[1] eight = {{8}}> {{ {text} }}"""
    proto = onnx.parser.parse_model(graph)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert compare(Model.from_bytes(proto.SerializeToString()))


@pytest.mark.parametrize("op", ["Concat<axis = 0>", "Gather"])
def test_what_doubles_with_every_node_is_left_to_others(op):
    steps = "".join(f" v{i + 1} = {op}(v{i}, v{i})" for i in range(200))
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (int64[2, 2] x) => (int64[K] y)
        {{ {"v0 = Shape(x)" if op != "Gather" else "v0 = Identity(x)"} {steps} y = Identity(v200) }}"""
    model = Model.from_bytes(onnx.parser.parse_model(text).SerializeToString()).ir
    infer_plain_shapes(model)
    assert all(len(output.shape or ()) <= 64 for node in model.graph for output in node.outputs)
