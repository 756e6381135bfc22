"""A graph read here is the graph that onnx_ir reads."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from portnet import Model, zoo
from portnet.graph.deserialize import deserialize
from portnet.graph.serialize import parse
from portnet.graph.validate import check_model
from portnet.testing.cases import cases


def _both(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    check_model(proto)
    return ir.serde.serialize_model(deserialize(proto, {})), ir.serde.serialize_model(ir.serde.deserialize_model(proto))


@pytest.mark.parametrize("kind", ["node", "simple", "pytorch-converted", "pytorch-operator"])
def test_the_standards_models(kind):
    for index, case in enumerate(cases(kind)):
        if kind == "node" and index % 4:
            continue
        ours, theirs = _both(case.load()[0])
        assert ours == theirs, case.name


def test_all_that_a_graph_may_say_of_itself():
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "some.domain" : 3], producer_name: "p", producer_version: "1",
        domain: "d", model_version: 7, doc_string: "about", metadata_props: ["a" : "b"]>
        g (float[N,2] x, seq(float[2]) s, float w) => (float[N,2] y, float z) <float w = {1}, int64[2] k = {3, 4}>
        { e = Relu(x) y = some.domain.Own<i = 1, f = 2.5, s = "t", v = [1, 2], h = [0.5], n = ["a", "b"],
        t = float[2] {1, 2}>(e, , k) z, = Own<s: string = "x">(w) }"""
    )
    graph = proto.graph
    graph.doc_string, graph.node[0].doc_string, graph.node[1].overload = "graph", "node", "o"
    graph.metadata_props.add(key="k", value="v")
    graph.node[0].metadata_props.add(key="k", value="v")
    info = graph.value_info.add(name="e")
    info.type.tensor_type.elem_type, info.doc_string = 1, "value"
    info.type.tensor_type.shape.dim.add(dim_param="N", denotation="BATCH")
    info.type.tensor_type.shape.dim.add()
    info.metadata_props.add(key="k", value="v")
    graph.initializer.add(name="q", data_type=10, dims=[2], int32_data=[1, 2])
    ours, theirs = _both(proto)
    assert ours == theirs


def test_text_that_is_none_stays_bytes():
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float x) => (float y) { y = A(x) }')
    proto.graph.node[0].attribute.add(name="s", type=3, s=b"\xff\xfe")
    expected = ir.serde.deserialize_model(proto).graph[0].attributes["s"].value
    assert parse(proto.SerializeToString())().graph[0].attributes["s"].value == expected


def test_copies_of_a_file_that_nobody_has_seen_are_graphs_of_their_own(tmp_path):
    path = tmp_path / "m.onnx"
    zoo.load("squeezenet1_1", weights=None).save(path)
    model = Model.load(path)
    first, second = model.copy(), model.copy()
    graphs = [first.ir, second.ir, model.ir, model.copy().ir]
    assert len(set(map(id, graphs))) == 4
    first.ir.graph[0].name = "changed"
    texts = [ir.serde.serialize_model(graph) for graph in graphs[1:]]
    assert texts[0] == texts[1] == texts[2]
    assert {array.tobytes() for array in model.weights().values()} == {
        array.tobytes() for array in second.weights().values()
    }


def test_a_change_of_a_graph_is_in_its_copies(tmp_path):
    path = tmp_path / "m.onnx"
    zoo.load("squeezenet1_1", weights=None).save(path)
    model = Model.load(path)
    model.copy()
    model.ir.graph[0].name = "changed"
    assert model.copy().ir.graph[0].name == "changed"
    assert model.ir.graph[0].name == "changed"
