"""Canonical form computes what the original computes: the standard's suite and its reference are the oracle."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from portnet.errors import ModelError
from portnet.graph.metadata import BackboneInfo, Metadata
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.testing.cases import cases, find_case
from portnet.testing.compare import difference

# what an engine of little breadth lowers: everything else must be expanded
PRIMITIVES = frozenset(
    """Abs Add And ArgMax ArgMin AveragePool BatchNormalization BitwiseAnd Cast Ceil Concat ConcatFromSequence
    ConstantOfShape Conv ConvTranspose Cos CumSum DequantizeLinear Div Dropout Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gemm Greater Identity If InstanceNormalization Less Log Loop MatMul Max MaxPool Min Mod Mul
    Neg NonZero Not Or Pad Pow QuantizeLinear RandomUniformLike Range Reciprocal ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum Reshape Resize Round ScatterElements ScatterND SequenceAt SequenceEmpty SequenceInsert
    SequenceLength Shape Sigmoid Sign Sin Size Slice Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze
    Where Xor""".split()  # noqa: SIM905
)


def parse(text: str) -> Model:
    return Model.from_bytes(onnx.parser.parse_model(text).SerializeToString())


def run(model: Model, *inputs: np.ndarray) -> list[np.ndarray]:
    session = onnx.reference.ReferenceEvaluator(onnx.ModelProto.FromString(model.to_bytes()))
    return session.run(None, dict(zip([port.name for port in model.inputs], inputs, strict=True)))


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.ir.graph]


def _outputs(proto: onnx.ModelProto, inputs: list) -> list | None:
    names = [value.name for value in proto.graph.input]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return onnx.reference.ReferenceEvaluator(proto).run(None, dict(zip(names, inputs, strict=False)))
    except Exception:
        return None


def _agrees(case, supports) -> bool | None:
    """Whether canonical form gives the expected values; None where the reference fails on the original."""
    proto, data = case.load()
    inputs, expected = data[0]
    before = _outputs(proto, inputs)
    if before is None or difference(before, expected, case.rtol, case.atol) is not None:
        return None
    canonical = Model.from_bytes(proto.SerializeToString()).canonical(supports)
    after = _outputs(onnx.ModelProto.FromString(canonical.to_bytes()), inputs[: len(canonical.inputs)])
    return after is not None and difference(after, expected, case.rtol, case.atol) is None


@pytest.mark.parametrize("supports", [None, PRIMITIVES], ids=["all", "primitives"])
def test_suite_sample_computes_the_expected_values(supports):
    names = [case.name for case in cases() if case.kind != "real"]
    sample = [find_case(name) for name in names[::60]]
    answers = {case.name: _agrees(case, supports) for case in sample}
    assert [name for name, answer in answers.items() if answer is False] == []
    assert sum(answer is True for answer in answers.values()) > 0.7 * len(sample)


def test_original_is_untouched_and_weights_are_shared():
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 64]), helper.make_tensor_value_info("w", 1, [64, 64])],
        [helper.make_tensor_value_info("y", 1, ["N", 64])],
        [weight],
    )
    model = Model.from_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)]).SerializeToString())
    before = model.to_bytes()
    canonical = model.canonical()
    assert model.to_bytes() == before
    assert [port.name for port in canonical.inputs] == ["x"]
    assert canonical.opset == 21
    shared = [form.ir.graph.initializers["w"].const_value for form in (model, canonical)]
    assert shared[0] is shared[1]


def test_constant_nodes_are_no_parameters():
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[N,2] y)
        <float[2,2] w = {1, 2, 3, 4}> { b = Constant<value = float[2] {5, 6}>() h = MatMul(x, w) y = Add(h, b) }""")
    canonical = model.canonical()
    assert ops(canonical) == ["MatMul", "Add"]
    assert canonical.parameter_count == model.parameter_count == 4
    assert run(canonical, np.ones((1, 2), np.float32))[0].tolist() == [[9, 12]]


def test_weights_behind_layout_ops_are_parameters():
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[N,3] x) => (float[N,2] y)
        <float[2,3] w = {1, 2, 3, 4, 5, 6}, float[1,2] b = {7, 8}, int64[1] flat = {-1}> {
            t = Transpose<perm = [1, 0]>(w) c = Reshape(b, flat) h = MatMul(x, t) y = Add(h, c) }""")
    assert model.parameter_count == model.canonical().parameter_count == 8
    assert model.canonical().roles["w"] is Role.WEIGHT


def test_a_role_survives_the_expansion_of_its_op():
    model = parse("""<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x) => (float[N,2] y)
        <float[2] scale = {1, 2}, float[2] bias = {3, 4}> { y = LayerNormalization(x, scale, bias) }""")
    expanded = model.canonical(PRIMITIVES)
    assert "LayerNormalization" not in ops(expanded)
    assert expanded.roles["scale"] is Role.NORM_SCALE
    assert expanded.parameter_count == 4


COMPUTED_ZERO_BIAS = """<ir_version: 8, opset_import: ["" : 18]> g (float[N,1,4,4] x) => (float[N,1,4,4] y)
    <float[1,1,1,1] w = {2}> {
        zero = Constant<value = float {0}>() shape = Constant<value = int64[1] {1}>()
        wide = Expand(zero, shape) b = CastLike(wide, x) y = Conv(x, w, b) }"""
ZERO_BIAS = """<ir_version: 8, opset_import: ["" : 18]> g (float[N,1,4,4] x) => (float[N,1,4,4] y)
    <float[1,1,1,1] w = {2}, float[1] b = {0}> { y = Conv(x, w, b) }"""


@pytest.mark.parametrize(("text", "count"), [(COMPUTED_ZERO_BIAS, 1), (ZERO_BIAS, 2)], ids=["computed", "initializer"])
def test_only_a_computed_zero_bias_is_removed(text, count):
    canonical = parse(text).canonical()
    assert ops(canonical) == ["Conv"]
    assert canonical.parameter_count == count


def test_names_of_outputs_and_of_the_feature_are_kept():
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[N,2] y) {
        a = Relu(x) feature = Identity(a) b = Exp(feature) y = Identity(b) }"""
    plain = parse(text).canonical()
    assert ops(plain) == ["Relu", "Exp"]
    assert plain.outputs[0].name == "y"
    marked = Model(parse(text).ir, Metadata(backbone=BackboneInfo("feature"))).canonical()
    assert "feature" in {output.name for node in marked.ir.graph for output in node.outputs}


def test_a_free_batch_stays_free_through_shape_arithmetic():
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,3] x) => (float[1,6] y) {
        s = Shape(x) zero = Constant<value = int64 {0}>() n = Gather(s, zero)
        axes = Constant<value = int64[1] {0}>() one = Unsqueeze(n, axes)
        rest = Constant<value = int64[1] {-1}>() shape = Concat<axis = 0>(one, rest) y = Reshape(x, shape) }""")
    canonical = model.canonical()
    assert canonical.outputs[0].shape == ("N", 6)
    assert run(canonical, np.zeros((5, 2, 3), np.float32))[0].shape == (5, 6)


def test_recorded_shapes_are_not_believed():
    """Exporters leave a batch of 1 behind a free batch, and one symbol on sizes that differ."""
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[1,2] y, float[K,K] z)
        <float[2,2] h> { h = Relu(x) y = Exp(h) axes = Constant<value = int64[1] {0}>() t = Unsqueeze(h, axes)
        s = Shape(t) u = Expand(x, s) flat = Constant<value = int64[2] {-1, 1}>() z = Reshape(u, flat) }""")
    y, z = model.canonical().outputs
    assert y.shape == ("N", 2)
    assert z.shape is not None
    assert "K" not in z.shape


def test_shapes_go_on_behind_an_op_that_the_standard_does_not_infer():
    model = parse("""<ir_version: 10, opset_import: ["" : 21]> g (float[N,4,3] x, float[4] s, float[4] b) => (y) {
        n = GroupNormalization<num_groups = 2>(x, s, b) y = Relu(n) }""")
    port = model.canonical(frozenset({"GroupNormalization", "Relu"})).outputs[0]
    assert (port.shape, port.dtype) == (("N", 4, 3), "float32")


def test_shape_arithmetic_of_known_sizes_is_folded():
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[2,2,3] x) => (float[2,6] y) {
        s = Shape(x) zero = Constant<value = int64[1] {0}>() n = Gather(s, zero)
        rest = Constant<value = int64[1] {-1}>() shape = Concat<axis = 0>(n, rest) y = Reshape(x, shape) }""")
    assert ops(model.canonical()) == ["Reshape"]


BRANCHES = """<ir_version: 8, opset_import: ["" : 13]> g (float[2] x, bool c) => (float[2] y) {{
    yes = Constant<value = bool {{1}}>()
    y = If({condition}) <
        then_branch = then () => (float[2] t) {{ one = Constant<value = float {{1}}>() t = Add(x, one) }},
        else_branch = other () => (float[2] e) {{ one = Constant<value = float {{2}}>() e = Add(x, one) }}> }}"""


def test_a_decided_if_is_inlined_and_an_open_one_stays():
    decided, free = (parse(BRANCHES.format(condition=name)).canonical() for name in ("yes", "c"))
    assert ops(decided) == ["Add"]
    assert len(decided.weights()) == 1
    assert ops(free) == ["If"]
    for condition, expected in ((True, 1), (False, 2)):
        assert run(free, np.zeros(2, np.float32), np.array(condition))[0].tolist() == [expected] * 2
    assert run(decided, np.zeros(2, np.float32), np.array(False))[0].tolist() == [1, 1]


def test_a_counted_loop_is_unrolled_only_for_an_engine_without_loops():
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[2] x) => (float[2] y, float[3,2] all) {
        n = Constant<value = int64 {3}>() go = Constant<value = bool {1}>()
        y, all = Loop(n, go, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] out) {
            d = Identity(c) f = Cast<to = 1>(i) w = Add(v, f) out = Identity(w) }> }""")
    unrolled = model.canonical(PRIMITIVES - {"Loop"})
    assert "Loop" in ops(model.canonical(PRIMITIVES))
    assert "Loop" not in ops(unrolled)
    for form in (model, unrolled):
        last, every = run(form, np.zeros(2, np.float32))
        assert last.tolist() == [3, 3]
        assert every.tolist() == [[0, 0], [1, 1], [3, 3]]


def test_functions_of_another_opset_are_inlined():
    model = parse("""<ir_version: 10, opset_import: ["" : 21, "own" : 1]> g (float[2,3] x) => (float[2,3] y) {
        y = own.twice<power = 3>(x) }
        <domain: "own", opset_import: ["" : 11]> twice <power> (a) => (b) {
            axes = Constant<value_ints = [0]>() s = ReduceSum<axes = [1], keepdims = 1>(a)
            p = Constant<value_int = @power>() q = Cast<to = 1>(p) t = Mul(a, q) b = Div(t, s) }""")
    canonical = model.canonical()
    assert not canonical.ir.functions
    assert np.allclose(run(canonical, np.ones((2, 3), np.float32))[0], 1)


def test_auto_pad_is_written_out_where_sizes_allow():
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[1,1,{size},{size}] x) => (float[1,1,H,W] y)
        <float[1,1,3,3] w = {{1,1,1,1,1,1,1,1,1}}> {{ y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) }}"""
    pads = {
        size: list(parse(text.format(size=size)).canonical().ir.graph[0].attributes["pads"].value) for size in (4, 5)
    }
    assert pads == {4: [0, 0, 1, 1], 5: [1, 1, 1, 1]}
    assert "auto_pad" in parse(text.format(size="K")).canonical().ir.graph[0].attributes


def test_canonical_form_is_a_fixed_point():
    proto, _ = find_case("test_layer_normalization_3d_axis1_epsilon").load()
    once = Model.from_bytes(proto.SerializeToString()).canonical(PRIMITIVES)
    assert ops(once.canonical(PRIMITIVES)) == ops(once)


def test_a_small_file_cannot_ask_for_much_memory():
    model = parse("""<ir_version: 8, opset_import: ["" : 13]> g (float[1] x) => (float[1] y)
        <int64[2] much = {30000, 30000}, float one = {1}> { wide = Expand(one, much) s = ReduceSum(wide)
        y = Add(x, s) }""")
    assert "Expand" in ops(model.canonical())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = Relu()", "Relu .* has 0 inputs, expected 1 to 1"),
        ("y = LeakyRelu<alpha = 1>(x)", "attribute 'alpha' of type INT, expected FLOAT"),
        ("y = LayerNormalization<axis = 9223372036854775807>(x, x)", "has axis=9223372036854775807"),
        ("y = Concat(x, x)", "lacks attribute 'axis'"),
        ("y = nobody.Knows(x)", "imports no operator set 'nobody'"),
    ],
)
def test_ill_formed_nodes_are_refused_by_name(body, message):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) {{ {body} }}'
    with pytest.raises(ModelError, match=message):
        parse(text).canonical()


@pytest.mark.parametrize(("second", "left"), [("[0, 3, 1, 2]", []), ("[3, 0, 1, 2]", ["Transpose"])])
def test_transposes_in_a_row_are_merged(second, left):
    model = parse(f"""<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,3,4] x) => (float[A,B,C,D] y) {{
        t = Transpose<perm = [0, 2, 3, 1]>(x) u = Transpose<perm = {second}>(t) y = Relu(u) }}""")
    canonical = model.canonical()
    assert ops(canonical) == [*left, "Relu"]
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    assert np.array_equal(run(canonical, x)[0], run(model, x)[0])


SEQUENCES = {
    "split": "s = SplitToSequence<axis = 1>(x, two) y = SequenceAt(s, one)",
    "split of a long axis": "l = Concat<axis = 0>(many, many) s = SplitToSequence<axis = 0>(l, sizes) "
    "a = SequenceAt(s, one) n = ReduceSum(a) y = Mul(x, n)",
    "split without axis": "s = SplitToSequence<axis = 1, keepdims = 0>(x) y = SequenceAt(s, one)",
    "built": "s = SequenceConstruct(x, x) t = SequenceInsert(s, h, one) u = SequenceErase(t) "
    "y = ConcatFromSequence<axis = 0, new_axis = 1>(u)",
    "length": "s = SequenceConstruct(x, x) n = SequenceLength(s) f = Cast<to = 1>(n) y = Mul(x, f)",
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_of_known_length_are_unpacked(name):
    model = parse(f"""<ir_version: 8, opset_import: ["" : 18]> g (float[2,4] x) => (float y)
        <int64 one = {{1}}, int64 two = {{2}}, int64[2] sizes = {{1500, 500}}> {{
        e = Exp(x) n8 = Constant<value = int64[2] {{1000, 1}}>() z = ReduceSum(e) many = Expand(z, n8)
        h = Exp(x) {SEQUENCES[name]} }}""")
    model.ir.graph.outputs[0].shape = None
    canonical = model.canonical()
    assert not [op for op in ops(canonical) if "Sequence" in op or "Optional" in op]
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(run(canonical, x)[0], run(model, x)[0])


def test_a_resize_by_a_ratio_of_sizes_is_one_to_the_size():
    model = parse("""<ir_version: 8, opset_import: ["" : 10]> g (float[N,1,h,w] x, float[N,1,p,q] d) => (float y)
        <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[1] end = {9223372036854775807}, float[2] ones = {1, 1}> {
        s = Shape(x) hw = Slice(s, i2, end, i0) a = Cast<to = 1>(hw) t = Shape(d) pq = Slice(t, i2, end, i0)
        b = Cast<to = 1>(pq) r = Div(a, b) scales = Concat<axis = 0>(ones, r)
        y = Resize<mode = "linear">(d, scales) }""")
    model.ir.graph.outputs[0].shape = None
    canonical = model.canonical()
    assert "Div" not in ops(canonical)
    x, d = np.zeros((1, 1, 6, 8), np.float32), np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    (got,), (expected,) = (
        onnxruntime.InferenceSession(form.to_bytes(), providers=["CPUExecutionProvider"]).run(None, {"x": x, "d": d})
        for form in (canonical, model)
    )
    assert got.shape == (1, 1, 6, 8)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_an_optional_that_is_there_is_its_element():
    model = parse("""<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y, bool z) {
        o = Optional(x) e = OptionalGetElement(o) y = Relu(e) z = OptionalHasElement(o) }""")
    canonical = model.canonical()
    assert ops(canonical) == ["Relu", "Identity"]
    assert [array.tolist() for array in run(canonical, np.ones(2, np.float32))] == [[1, 1], True]


HELD = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x) => (float[N,2] y) <{initializers}> {{
    w = Constant<value = float[2,2] {{1,2,3,4}}>() m = MatMul(x, w) b = Constant<value = float[2] {{5,6}}>()
    {body} }}"""


def test_weights_that_are_all_constants_are_weights():
    model = parse(HELD.format(initializers="float[1] unused = {0}", body="y = Add(m, b)"))
    assert model.roles["w"] is Role.WEIGHT
    assert model.roles["b"] is Role.BIAS
    assert model.parameter_count == model.canonical().parameter_count == 6


def test_a_constant_beside_weights_is_none():
    model = parse(HELD.format(initializers="float[2] v = {1,1}", body="z = Add(m, b) y = Mul(z, v)"))
    assert model.parameter_count == model.canonical().parameter_count == 2


HUGE = {
    "ConstantOfShape": "s = Constant<value = int64[2] {1000000, 1000000}>() z = ConstantOfShape(s) y = Add(z, x)",
    "Expand": "s = Constant<value = int64[2] {1000000, 1000000}>() y = Expand(x, s)",
    "Tile": "s = Constant<value = int64[1] {1000000000000}>() y = Tile(x, s)",
    "Pad": "s = Constant<value = int64[2] {1000000000000, 0}>() y = Pad(x, s)",
    "RandomNormal": "z = RandomNormal<shape = [1000000, 1000000]>() y = Add(z, x)",
}


@pytest.mark.parametrize("op", HUGE)
def test_a_tensor_that_no_machine_holds_is_refused(op):
    model = parse(f'<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float y) {{ {HUGE[op]} }}')
    with pytest.raises(ModelError, match=rf"^{op} node .* takes 3,725 GiB, expected at most 16$"):
        model.canonical()
