"""A small file may ask for more work than any machine gets done with: that is said before anybody begins."""

import itertools
import json

import onnx.parser
import pytest
from onnx import TensorProto, helper

from portnet.errors import ModelError
from portnet.formats.keras import read
from portnet.graph.model import Model


def parse(text):
    return Model.from_bytes(onnx.parser.parse_model(text).SerializeToString())


LOOP = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x, bool some) => (float[1] y) {{
    n = Constant<value = int64 {{{trips}}}>() no = Constant<value = int64 {{0}}>() never = Cast<to = 9>(no)
    y = Loop({inputs}, x) <body = step (int64 i, bool c, float[1] h) => (bool d, float[1] k) {{
        ten = Constant<value = float {{10.0}}>() k = Add(h, h) low = ReduceMax<keepdims = 0>(k) less = Less(low, ten)
        d = Identity({condition}) }}>
}}
"""


@pytest.mark.parametrize(("trips", "inputs"), [(10**12, "n, "), (0, ",")])
def test_a_loop_that_nothing_ends_is_refused(trips, inputs):
    with pytest.raises(ModelError, match=r"^Loop node 'y': .* steps that no condition ends, expected at most"):
        parse(LOOP.format(trips=trips, inputs=inputs, condition="c")).canonical()


@pytest.mark.parametrize(
    ("inputs", "condition", "loops"),
    [("n, some", "less", 1), ("n, some", "c", 1), ("n, ", "less", 1), ("n, never", "c", 0)],
)
def test_a_loop_that_a_condition_may_end_is_not(inputs, condition, loops):
    graph = parse(LOOP.format(trips=10**12, inputs=inputs, condition=condition)).canonical(frozenset()).ir.graph
    assert sum(node.op_type == "Loop" for node in graph) == loops


NEST = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x) => (float[1] y) {
    n = Constant<value = int64 {250}>() one = Constant<value = int64 {1}>() go = Cast<to = 9>(one)
    y = Loop(n, go, x) <body = a (int64 i, bool c, float[1] h) => (bool d, float[1] k) {
        d = Identity(c) k = Loop(n, go, h) <body = b (int64 j, bool e, float[1] l) => (bool f, float[1] m) {
            f = Identity(e) m = Loop(n, go, l) <body = z (int64 o, bool p, float[1] q) => (bool r, float[1] s) {
                r = Identity(p) s = Add(q, q) }> }> }>
}
"""


def test_loops_in_loops_do_not_unfold_to_more_than_the_outermost_may():
    graph = parse(NEST).canonical(frozenset({"Add"})).ir.graph
    assert sum(1 for _ in graph.all_nodes()) < 20_000


def calls(depth, width, ends=True):
    """Functions that each call the next one so often; the last one calls the first, or else Relu."""
    functions = []
    for level in range(depth):
        last = level == depth - 1
        op, domain = (("Relu", "") if ends else ("F0", "own")) if last else (f"F{level + 1}", "own")
        names = ["a", *(f"t{i}" for i in range(1, width)), "b"]
        nodes = [helper.make_node(op, [m], [n], domain=domain) for m, n in itertools.pairwise(names)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], nodes, imports))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain="own")], "g", ports[:1], ports[1:])
    proto = helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=8)
    return Model.from_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("depth", "width", "ends", "message"),
    [
        (40, 2, True, "unfold to 1,099,511,627,776 nodes, expected at most 100,000"),
        (1, 1, False, "'F0' calls itself"),
        (3, 1, False, "calls itself"),
        (70, 1, True, "nests deeper than 64 levels"),
    ],
)
def test_functions_that_unfold_without_end_are_refused(depth, width, ends, message):
    with pytest.raises(ModelError, match=message):
        calls(depth, width, ends).canonical()


def test_functions_that_call_functions_are_unfolded():
    assert [node.op_type for node in calls(6, 2).canonical().ir.graph] == ["Relu"] * 64


def test_a_file_that_asks_for_more_than_any_network_needs_is_refused(tmp_path):
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 4, 4], "name": "x"}},
        {"class_name": "ZeroPadding1D", "config": {"name": "wide", "padding": [2**30, 2**30]}},
    ]
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": layers}}))
    with pytest.raises(ModelError, match=r"layer 'wide' \(Pad\): got a result of sizes .* Refused"):
        read(path)
