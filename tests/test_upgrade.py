"""Nodes of old opsets mean the same after the upgrade: the oracle is onnxruntime or the reference, at the old opset."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.defs
import onnx.parser
import onnx.reference
import onnxruntime
import pytest

from portnet.errors import UnsupportedError
from portnet.graph.model import Model
from portnet.graph.passes.upgrade import registry

X234 = "float[2,3,4] x"
# name: (opset, inputs, initializers, body); every graph has the output y, and may have z
CASES: dict[str, tuple[int, str, str, str]] = {
    "argmax": (7, X234, "", "y = ArgMax<axis = 1>(x)"),
    "average_pool": (7, "float[1,1,5,5] x", "", "y = AveragePool<kernel_shape = [2,2], pads = [1,1,1,1]>(x)"),
    "batch_norm": (
        8,
        X234,
        "float[3] s = {1,2,3}, float[3] b = {3,2,1}, float[3] m = {0,1,0}, float[3] v = {1,2,3}",
        "y = BatchNormalization(x, s, b, m, v)",
    ),
    "clip": (6, X234, "", "y = Clip<min = -0.5, max = 0.5>(x)"),
    "clip_one_side": (10, X234, "", "y = Clip<min = 0.0>(x)"),
    "clip_double": (10, "double[4] x", "", "y = Clip<min = 0.0>(x)"),
    "dropout": (7, X234, "", "y = Dropout<ratio = 0.3>(x)"),
    "hardmax": (11, X234, "", "y = Hardmax<axis = 1>(x)"),
    "log_softmax": (9, X234, "", "y = LogSoftmax(x)"),
    "pad": (10, X234, "", "y = Pad<pads = [0,1,0,0,1,2], value = 3.0>(x)"),
    "pad_reflect": (8, X234, "", 'y = Pad<mode = "reflect", pads = [0,1,0,0,1,2]>(x)'),
    "reduce_max": (11, X234, "", "y = ReduceMax<axes = [1], keepdims = 0>(x)"),
    "reduce_mean_all": (13, X234, "", "y = ReduceMean(x)"),
    "reduce_sum": (11, X234, "", "y = ReduceSum<axes = [-1]>(x)"),
    "resize_nearest": (10, "float[1,1,2,2] x", "float[4] s = {1,1,2,3}", "y = Resize(x, s)"),
    "resize_linear": (10, "float[1,1,2,2] x", "float[4] s = {1,1,2,2}", 'y = Resize<mode = "linear">(x, s)'),
    "resize_shrinks": (10, "float[1,1,5,5] x", "float[4] s = {1,1,0.6,0.6}", "y = Resize(x, s)"),
    "resize_half_pixel": (
        11,
        "float[1,1,3,3] x",
        "float[4] s = {1,1,2,2}, float[0] roi = {}",
        'y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">(x, roi, s)',
    ),
    "scatter": (9, X234, "int64[1,1,2] i = {0,1}, float[1,1,2] u = {8,9}", "y = Scatter<axis = 2>(x, i, u)"),
    "slice": (9, X234, "", "y = Slice<axes = [1,2], starts = [0,1], ends = [2,9999]>(x)"),
    "softmax_coerced": (11, X234, "", "y = Softmax<axis = 1>(x)"),
    "softmax_last": (11, X234, "", "y = Softmax<axis = -1>(x)"),
    "softmax_channels": (9, "float[2,3,1,1] x", "", "y = Softmax(x)"),
    "split": (11, X234, "", "y, z = Split<axis = 1, split = [1,2]>(x)"),
    "split_evenly": (13, X234, "", "y, z = Split<axis = 2>(x)"),
    "squeeze": (11, "float[1,3,1] x", "", "y = Squeeze<axes = [0]>(x)"),
    "top_k": (9, X234, "", "y, z = TopK<axis = 1, k = 2>(x)"),
    "unsqueeze": (11, X234, "", "y = Unsqueeze<axes = [0,4]>(x)"),
    "upsample": (7, "float[1,1,2,2] x", "", 'y = Upsample<mode = "nearest", scales = [1.0,1.0,2.0,2.0]>(x)'),
    "upsample_linear": (9, "float[1,1,2,3] x", "float[4] s = {1,1,2,2}", 'y = Upsample<mode = "linear">(x, s)'),
    "group_norm": (
        18,
        "float[2,4,3] x",
        "float[2] s = {1,2}, float[2] b = {3,4}",
        "y = GroupNormalization<num_groups = 2>(x, s, b)",
    ),
    "grid_sample": (
        16,
        "float[1,1,3,3] x",
        "float[1,1,2,2] g = {0.1,0.2,-0.5,0.7}",
        'y = GridSample<mode = "bicubic">(x, g)',
    ),
    "roi_align": (
        10,
        "float[1,1,6,6] x",
        "float[1,4] r = {0,0,4,4}, int64[1] i = {0}",
        "y = RoiAlign<output_height = 2, output_width = 2, sampling_ratio = 2>(x, r, i)",
    ),
}
# types and versions that onnxruntime 1.32 does not run
BY_REFERENCE = {"clip_double", "group_norm"}


def parse(opset: int, inputs: str, initializers: str, body: str) -> onnx.ModelProto:
    outputs = "float y, float z" if "z =" in body else "float y"
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) <{initializers}> {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for output in proto.graph.output:
        output.ClearField("type")
    return onnx.shape_inference.infer_shapes(proto)


def random_inputs(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[value.name] = rng.standard_normal([d.dim_value for d in tensor.shape.dim]).astype(dtype)
    return feeds


def by_onnxruntime(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def by_reference(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnx.reference.ReferenceEvaluator(proto).run(None, feeds)


@pytest.mark.parametrize("name", CASES)
def test_same_values_before_and_after(name):
    proto = parse(*CASES[name])
    run = by_reference if name in BY_REFERENCE else by_onnxruntime
    feeds = random_inputs(proto)
    upgraded = onnx.ModelProto.FromString(Model.from_bytes(proto.SerializeToString()).canonical().to_bytes())
    assert upgraded.opset_import[0].version == 21
    for before, after in zip(run(proto, feeds), run(upgraded, feeds), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def canonical(text: str) -> Model:
    return Model.from_bytes(onnx.parser.parse_model(text).SerializeToString()).canonical()


def outputs(model: Model, **feeds: np.ndarray) -> list[np.ndarray]:
    return by_reference(onnx.ModelProto.FromString(model.to_bytes()), feeds)


def test_explicit_broadcast_aligns_at_its_axis():
    model = canonical("""<ir_version: 3, opset_import: ["" : 6]> g (float[2,3,4] x, float[3] b) => (float[2,3,4] y)
        { y = Add<broadcast = 1, axis = 1>(x, b) }""")
    x, b = np.zeros((2, 3, 4), np.float32), np.array([1, 2, 3], np.float32)
    assert np.array_equal(outputs(model, x=x, b=b)[0], x + b[:, None])


def test_statistics_of_every_activation():
    model = canonical("""<ir_version: 3, opset_import: ["" : 7]> g (float[N,2,2] x) => (float[N,2,2] y)
        <float[2,2] s = {1,2,3,4}, float[2,2] b = {4,3,2,1}, float[2,2] m = {1,1,1,1}, float[2,2] v = {1,4,9,16}>
        { y = BatchNormalization<spatial = 0, epsilon = 0.0>(x, s, b, m, v) }""")
    x = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    expected = (x - 1) / np.array([[1, 2], [3, 4]]) * np.array([[1, 2], [3, 4]]) + np.array([[4, 3], [2, 1]])
    np.testing.assert_allclose(outputs(model, x=x)[0], expected, rtol=1e-5)
    assert model.parameter_count == 8


def test_batch_first_lstm_runs_time_first():
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((2, 5, 3)),
        "w": rng.standard_normal((1, 16, 3)),
        "r": rng.standard_normal((1, 16, 4)),
    }
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    text = """<ir_version: 8, opset_import: ["" : 14]> g (float[2,5,3] x, float[1,16,3] w, float[1,16,4] r)
        => (float[2,5,1,4] y, float[2,1,4] h) {{ y, h = LSTM<hidden_size = 4, layout = {layout}>({x}, w, r) }}"""
    batch_first = canonical(text.format(layout=1, x="x"))
    assert all("layout" not in node.attributes for node in batch_first.ir.graph)
    time_first = onnx.parser.parse_model(text.format(layout=0, x="x"))
    y, h = by_onnxruntime_untyped(time_first, {**feeds, "x": feeds["x"].transpose(1, 0, 2)})
    got = by_onnxruntime(onnx.ModelProto.FromString(batch_first.to_bytes()), feeds)
    np.testing.assert_allclose(got[0], y.transpose(2, 0, 1, 3), rtol=1e-5)
    np.testing.assert_allclose(got[1], h.transpose(1, 0, 2), rtol=1e-5)


def by_onnxruntime_untyped(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run after forgetting the sizes that the text declares."""
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    return by_onnxruntime(proto, feeds)


def test_attributes_under_a_newer_stamp_are_understood():
    """Exporters stamp the newest opset over nodes of an older one."""
    model = canonical("""<ir_version: 10, opset_import: ["" : 21]> g (float[1,3] x) => (float[3] y)
        { m = ReduceMax<axes = [0]>(x) c = Clip<min = 0.0>(m) y = Squeeze<axes = [0]>(c) }""")
    assert outputs(model, x=np.array([[-1, 2, 3]], np.float32))[0].tolist() == [0, 2, 3]


def test_what_no_later_opset_can_say_is_refused():
    text = """<ir_version: 8, opset_import: ["" : 11]> g (float[1,1,3,3] x) => (float[1,1,6,6] y)
        <float[4] s = {1,1,2,2}, float[0] roi = {}> {
        y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "ceil">(x, roi, s) }"""
    with pytest.raises(UnsupportedError, match="tf_half_pixel_for_nn and ceil"):
        canonical(text)


def test_every_op_that_lost_an_attribute_has_a_rule():
    history: dict[str, list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, []).append(schema)
    lacking = set()
    for name, schemas in history.items():
        newest = max(schemas, key=lambda schema: schema.since_version)
        gone = {a for schema in schemas for a in schema.attributes} - set(newest.attributes) - {"consumed_inputs"}
        if (gone or newest.deprecated) and name not in registry._RULES:
            lacking.add(name)
    assert lacking == set()
