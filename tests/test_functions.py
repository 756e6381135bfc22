"""Ops that an engine lacks become the standard's own function bodies, and compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.defs
import onnx.parser
import onnx.reference
import pytest
from test_canonical import PRIMITIVES, ops, parse, run

from portnet.graph.model import Model
from portnet.testing.cases import find_case
from portnet.testing.compare import difference

# one case of the standard's suite for each op with a body that PRIMITIVES lacks
CASES = """test_affine_grid_2d test_attention_3d_causal test_attention_4d_gqa_with_past_and_present test_blackmanwindow
    test_castlike_FLOAT_to_DOUBLE test_celu test_center_crop_pad_crop_and_pad test_dynamicquantizelinear test_elu
    test_gelu_default_1 test_greater_equal test_group_normalization_example test_hardsigmoid test_hardswish
    test_layer_normalization_4d_axis1 test_leakyrelu test_less_equal test_logsoftmax_axis_1 test_mish test_mvn
    test_nllloss_NCd1_weight_ii test_prelu_broadcast test_reduce_l1_keep_dims_example
    test_reduce_l2_negative_axes_keep_dims_example test_reduce_log_sum_default test_reduce_sum_square_keepdims_random
    test_relu test_rms_normalization_2d_axis1 test_rotary_embedding_interleaved
    test_sce_NCd1d2d3d4d5_mean_weight_log_prob test_selu test_sequence_map_add_1_sequence_1_tensor test_shrink_soft
    test_softmax_axis_0 test_softplus test_softsign test_swish test_thresholdedrelu test_clip_default_min""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", CASES)
def test_the_body_computes_what_the_op_computes(name):
    proto, data = find_case(name).load()
    inputs, expected = data[0]
    model = Model.from_bytes(proto.SerializeToString()).canonical(PRIMITIVES)
    assert set(ops(model)) <= PRIMITIVES
    assert [port.name for port in model.outputs] == [value.name for value in proto.graph.output]
    session = onnx.reference.ReferenceEvaluator(onnx.ModelProto.FromString(model.to_bytes()))
    got = session.run(None, dict(zip([value.name for value in proto.graph.input], inputs, strict=True)))
    assert difference(got, expected, 1e-3, 1e-5) is None


def test_every_op_with_a_body_is_tried():
    with_body = {s.name for s in onnx.defs.get_all_schemas() if s.has_function or s.has_context_dependent_function}
    tried = {node.op_type for name in CASES for node in find_case(name).load()[0].graph.node}
    # younger than most engines' graphs, or random, or without another form in the primitives
    left_out = {"Bernoulli", "CausalConvWithState", "FlexAttention", "HammingWindow", "HannWindow", "LinearAttention"}
    left_out |= {"DepthToSpace", "SpaceToDepth", "SwiGLU", "ReduceLogSumExp"}
    assert with_body - tried - PRIMITIVES - left_out == set()


TEXT = """<ir_version: 8, opset_import: ["" : 20]> g (float[2,3] x) => (float[2,3] y) {
    [act] a = Gelu<approximate = "tanh">(x) y = Gelu(a) }"""


def test_names_of_the_body_begin_with_the_node_s():
    model = parse(TEXT).canonical(PRIMITIVES)
    names = [node.name for node in model.ir.graph]
    assert len(names) == len(set(names))
    assert any(name.startswith("act/") for name in names)
    assert "a" in {output.name for node in model.ir.graph for output in node.outputs}


def test_an_op_that_the_engine_has_stays():
    assert ops(parse(TEXT).canonical(PRIMITIVES | {"Gelu"})) == ["Gelu", "Gelu"]


def test_an_op_without_a_body_stays_for_the_engine_to_refuse():
    model = parse("""<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]> g (float[2] x) => (float[2] y)
        { h = com.acme.Sparkle(x) y = Det(h) }""")
    assert ops(model.canonical(PRIMITIVES)) == ["Sparkle", "Det"]


def test_bodies_inside_branches_are_expanded():
    model = parse("""<ir_version: 8, opset_import: ["" : 20]> g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] a) { a = Gelu(x) },
            else_branch = e () => (float[2] b) { b = Mish(x) }> }""")
    expanded = model.canonical(PRIMITIVES)
    inner = {node.op_type for graph in expanded.ir.graphs() for node in graph}
    assert inner <= PRIMITIVES
    for condition in (True, False):
        feeds = np.ones(2, np.float32), np.array(condition)
        np.testing.assert_allclose(run(expanded, *feeds)[0], run(model, *feeds)[0], rtol=1e-5)
