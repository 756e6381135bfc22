"""Cutting a graph and finding where its head begins."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from portnet.errors import ModelError, UnknownNameError
from portnet.graph.cut import cut
from portnet.graph.feature import find_feature
from portnet.graph.model import Model

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x, float[N,2] other, bool c)
    => (float[N,2] y, float[N,2] z)
    <float[2,2] w = {1,2,3,4}, float[2] b = {5,6}, float[2] v = {7,8}> {
    h = MatMul(x, w) f = Add(h, b) z = Mul(other, v)
    y = If(c) <then_branch = t () => (float[N,2] p) { p = Exp(f) },
               else_branch = e () => (float[N,2] q) { q = Mul(f, v) }> }"""


def parse(text: str) -> Model:
    return Model.from_bytes(onnx.parser.parse_model(text).SerializeToString())


def run(model: Model, **feeds: np.ndarray) -> list[np.ndarray]:
    session = onnx.reference.ReferenceEvaluator(onnx.ModelProto.FromString(model.to_bytes()))
    return session.run(None, feeds)


X = np.array([[1, 2], [3, 4]], np.float32)


def test_only_what_the_outputs_need_is_kept():
    part = cut(parse(TEXT), outputs=["f"])
    assert [port.name for port in part.inputs] == ["x"]
    assert list(part.weights()) == ["w", "b"]
    assert part.outputs[0].shape == ("N", 2)
    assert np.array_equal(run(part, x=X)[0], X @ [[1, 2], [3, 4]] + [5, 6])


def test_prefix_and_suffix_compute_the_whole():
    model = parse(TEXT)
    prefix, suffix = cut(model, outputs=["f"]), cut(model, inputs=["f", "c"], outputs=["y"])
    assert list(suffix.weights()) == ["v"]
    for condition in (np.array(True), np.array(False)):
        whole = run(model, x=X, other=X, c=condition)[0]
        assert np.array_equal(run(suffix, f=run(prefix, x=X)[0], c=condition)[0], whole)


def test_a_part_that_needs_more_than_it_is_given_is_refused():
    with pytest.raises(ModelError, match="also needs the input 'c'"):
        cut(parse(TEXT), inputs=["f"], outputs=["y"])
    with pytest.raises(UnknownNameError, match="unknown tensor 'ff'"):
        cut(parse(TEXT), outputs=["ff"])


@pytest.mark.parametrize(
    ("head", "feature"),
    [
        ("p = GlobalAveragePool(f) q = Flatten(p) y = Gemm(q, w, b)", "f"),
        ("p = ReduceMean<axes = [2,3], keepdims = 0>(f) l = MatMul(p, w) m = Add(l, b) y = Softmax(m)", "f"),
        ("k = Constant<value = int64[2] {0,-1}>() q = Reshape(f, k) r = Dropout(q) y = Gemm(r, w, b)", "f"),
    ],
)
def test_the_feature_stands_before_pooling_and_classifier(head, feature):
    model = parse(f"""<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,1,1] x) => (float[N,2] y)
        <float[2,2] w = {{1,2,3,4}}, float[2] b = {{5,6}}> {{ f = Relu(x) {head} }}""")
    assert find_feature(model) == feature
    assert find_feature(model.canonical()) == feature


def test_a_network_without_a_classifier_has_no_feature():
    with pytest.raises(ModelError, match="Name the feature"):
        find_feature(parse('<ir_version: 8, opset_import: ["" : 13]> g (float[2] x) => (float[2] y) { y = Relu(x) }'))
