"""onnxruntime's own ops of transformers, packed weights and channels that come last: onnxruntime is the oracle."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import portnet
from portnet.errors import ModelError
from portnet.graph.blockwise import in_full
from portnet.graph.model import Model
from portnet.graph.passes.rewrite import every_node
from portnet.parity.noise import rounding_noise
from portnet.parity.sides import OnnxruntimeSide

RNG = np.random.default_rng(3)


class Weight:
    """An initializer among the inputs of a case."""

    def __init__(self, array):
        self.array = np.asarray(array)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def whole(dtype, *shape):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def scale(number, zero=None):
    scales = [Weight(np.float32(number))]
    return scales if zero is None else [*scales, Weight(np.uint8(zero))]


IDS, KINDS = RNG.integers(0, 6, (2, 5)).astype(np.int32), RNG.integers(0, 2, (2, 5)).astype(np.int32)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)
# onnxruntime hides what is not above 0, and counts words that 1 is said of
ODD_MASK = np.array([[2, 1, 3, 0, -1], [1, 1, 1, 5, 0]], np.int32)
LENGTHS = np.array([3, 4], np.int32)
ENDS = np.array([4, 5, 1, 0], np.int32)
TABLES = [Weight(floats(6, 8)), Weight(floats(9, 8)), Weight(floats(2, 8)), Weight(floats(8)), Weight(floats(8))]
X, JOINED, BIAS = floats(2, 5, 8), Weight(floats(8, 24)), Weight(floats(24))
Q, K, V = floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 8)
ANGLES = RNG.uniform(0, 6, (6, 2))
CACHES = [Weight(np.cos(ANGLES).astype(np.float32)), Weight(np.sin(ANGLES).astype(np.float32))]
PLACES = RNG.integers(0, 6, (2, 3))
IMAGE = whole(np.uint8, 1, 7, 6, 4)

# name: op, inputs (None for one left out), count of outputs, attributes
CASES = {
    "embedding": ("EmbedLayerNormalization", [IDS, KINDS, *TABLES, MASK], 3, {"epsilon": 1e-3}),
    "embedding of an odd mask": ("EmbedLayerNormalization", [IDS, KINDS, *TABLES, ODD_MASK], 2, {}),
    "embedding without kinds": (
        "EmbedLayerNormalization",
        [IDS, None, *TABLES[:2], None, *TABLES[3:], None, IDS],
        2,
        {},
    ),
    "attention": ("Attention", [X, JOINED, BIAS], 1, {"num_heads": 2}),
    "attention of lengths": ("Attention", [X, JOINED, BIAS, LENGTHS], 1, {"num_heads": 2}),
    "attention of ends": ("Attention", [X, JOINED, BIAS, ENDS], 1, {"num_heads": 2}),
    "attention of a mask": ("Attention", [X, JOINED, None, MASK], 1, {"num_heads": 4, "mask_filter_value": -50.0}),
    "attention of an odd mask": ("Attention", [X, JOINED, BIAS, ODD_MASK], 1, {"num_heads": 2}),
    "attention backwards": ("Attention", [X, JOINED, BIAS], 1, {"num_heads": 2, "unidirectional": 1, "scale": 0.7}),
    "attention with a past": (
        "Attention",
        [X, JOINED, BIAS, np.concatenate([np.ones((2, 3), np.int32), MASK], 1), floats(2, 2, 2, 3, 4)],
        2,
        {"num_heads": 2, "unidirectional": 1},
    ),
    "attention of sizes": (
        "Attention",
        [X, Weight(floats(8, 20)), Weight(floats(20)), None, None, floats(1, 2, 5, 5)],
        1,
        {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]},
    ),
    "heads": ("MultiHeadAttention", [Q, K, floats(2, 5, 12), None, MASK], 3, {"num_heads": 2}),
    "heads backwards": ("MultiHeadAttention", [Q, Q, floats(2, 3, 8)], 1, {"num_heads": 2, "unidirectional": 1}),
    "heads backwards over others": ("MultiHeadAttention", [Q, K, V], 1, {"num_heads": 2, "unidirectional": 1}),
    "heads with a bias": ("MultiHeadAttention", [Q, K, V, BIAS, None, floats(1, 2, 3, 5)], 1, {"num_heads": 2}),
    "heads apart": ("MultiHeadAttention", [Q, floats(2, 2, 5, 4), floats(2, 2, 5, 4), BIAS], 1, {"num_heads": 2}),
    "heads with a past": (
        "MultiHeadAttention",
        [Q, K, V, None, None, None, floats(2, 2, 4, 4), floats(2, 2, 4, 4)],
        3,
        {"num_heads": 2, "scale": 0.3},
    ),
    "quantized attention": (
        "QAttention",
        [whole(np.uint8, 2, 5, 8), Weight(whole(np.int8, 8, 24)), BIAS, *scale(0.02), *scale(0.01), LENGTHS]
        + [Weight(np.uint8(120)), Weight(np.int8(3))],
        1,
        {"num_heads": 2},
    ),
    "rotary halves": ("RotaryEmbedding", [floats(2, 2, 3, 4), PLACES, *CACHES], 1, {}),
    "rotary neighbours": ("RotaryEmbedding", [floats(2, 3, 8), np.array([2]), *CACHES], 1, {"interleaved": 1}),
    "rotary part": (
        "RotaryEmbedding",
        [floats(2, 3, 12), PLACES, *CACHES],
        1,
        {"num_heads": 2, "rotary_embedding_dim": 4},
    ),
    "4 bits": (
        "MatMulNBits",
        [floats(2, 3, 96), Weight(whole(np.uint8, 6, 3, 16)), Weight(floats(18)), Weight(whole(np.uint8, 6, 2))],
        1,
        {"K": 96, "N": 6, "bits": 4, "block_size": 32},
    ),
    "8 bits with a bias": (
        "MatMulNBits",
        [floats(3, 40), Weight(whole(np.uint8, 6, 2, 32)), Weight(floats(12)), None, None, Weight(floats(6))],
        1,
        {"K": 40, "N": 6, "bits": 8, "block_size": 32},
    ),
    "2 bits": (
        "MatMulNBits",
        [floats(3, 80), Weight(whole(np.uint8, 6, 3, 8)), Weight(floats(18)), Weight(whole(np.uint8, 6, 1))],
        1,
        {"K": 80, "N": 6, "bits": 2, "block_size": 32},
    ),
    "8-bit table": (
        "GatherBlockQuantized",
        [Weight(whole(np.uint8, 6, 24)), PLACES, Weight(floats(6, 2))],
        1,
        {"quantize_axis": 1, "block_size": 16, "bits": 8},
    ),
    "4-bit table": (
        "GatherBlockQuantized",
        [Weight(whole(np.uint8, 6, 16)), PLACES, Weight(floats(6, 2)), Weight(whole(np.uint8, 6, 1))],
        1,
        {"quantize_axis": 1, "block_size": 16, "bits": 4},
    ),
    "max pool": ("NhwcMaxPool", [IMAGE], 1, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    "average pool": (
        "QLinearAveragePool",
        [IMAGE, *scale(0.1, 100), *scale(0.12, 90)],
        1,
        {"kernel_shape": [3, 3], "strides": [2, 2], "channels_last": 1},
    ),
    "convolution": (
        "QLinearConv",
        [IMAGE, *scale(0.1, 100), Weight(whole(np.int8, 5, 4, 3, 3)), *scale(0.02), Weight(np.int8(0))]
        + [*scale(0.5, 90), Weight(np.arange(5, dtype=np.int32) * 100)],
        1,
        {"channels_last": 1, "pads": [1, 1, 1, 1]},
    ),
    "choice": (
        "QLinearWhere",
        [X > 0, whole(np.uint8, 2, 5, 8), *scale(0.1, 100), whole(np.uint8, 2, 5, 8), *scale(0.07, 5), *scale(0.2, 9)],
        1,
        {},
    ),
    "activation": (
        "FusedConv",
        [floats(1, 2, 4, 4), Weight(floats(3, 2, 2, 2)), Weight(floats(3))],
        1,
        {"activation": "HardSwish", "activation_params": [0.2, 0.4]},
    ),
    "distances": ("CDist", [floats(3, 4), floats(5, 4)], 1, {"metric": "euclidean"}),
    "picks": ("GatherND", [floats(3, 4, 5), RNG.integers(0, 3, (2, 2)).astype(np.int32)], 1, {}),
    "unique": ("Unique", [np.array([3, 1, 3, 2], np.float32)], 3, {}),
}


def build(op, inputs, count, attributes, free=False):
    names = ["" if value is None else f"i{i}" for i, value in enumerate(inputs)]
    given = [(name, value) for name, value in zip(names, inputs, strict=True) if name]
    feeds = {name: value for name, value in given if not isinstance(value, Weight)}
    ports = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            ["N", "T", *array.shape[2:]] if free and array.ndim > 1 else array.shape,
        )
        for name, array in feeds.items()
    ]
    weights = [numpy_helper.from_array(value.array, name) for name, value in given if name not in feeds]
    outputs = [f"y{i}" for i in range(count)]
    node = helper.make_node(op, names, outputs, "the_node", domain="com.microsoft", **attributes)
    graph = helper.make_graph([node], "g", ports, [helper.make_empty_tensor_value_info(n) for n in outputs], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), feeds


def run(proto, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def assert_same(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        # a quantized result may be rounded to its neighbour
        np.testing.assert_allclose(
            one.astype(np.float64), other.astype(np.float64), rtol=1e-4, atol=1 if other.dtype == np.uint8 else 1e-4
        )


@pytest.mark.parametrize("name", CASES)
def test_standard_ops_compute_the_same(name):
    proto, feeds = build(*CASES[name])
    model = Model.from_bytes(proto.SerializeToString()).canonical()
    assert all(node.domain == "" for node in model.ir.graph)
    assert_same(run(onnx.ModelProto.FromString(model.to_bytes()), feeds), run(proto, feeds))


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
@pytest.mark.parametrize("name", ["embedding", "attention of a mask", "attention backwards", "rotary neighbours"])
def test_batch_and_length_stay_free(engine, name):
    pytest.importorskip(f"portnet_{engine}")
    proto, feeds = build(*CASES[name], free=True)
    lowered = portnet.engine(engine).lower(Model.from_bytes(proto.SerializeToString()))
    for batch, length in ((2, 5), (1, 3)):
        some = {n: array[:batch, :length] if array.ndim > 1 else array for n, array in feeds.items()}
        got = lowered.run(some)
        assert_same([got[port.name] for port in lowered.model.outputs], run(proto, some))


@pytest.mark.parametrize(
    ("name", "count"),
    [("embedding", 6 * 8 + 9 * 8 + 2 * 8 + 16), ("attention", 8 * 24 + 24), ("heads with a bias", 24)],
)
def test_fused_weights_are_parameters(name, count):
    model = Model.from_bytes(build(*CASES[name])[0].SerializeToString())
    assert model.parameter_count == model.canonical().parameter_count == count


def test_as_many_layers_as_there_are():
    # each knows its batch, of which the mask has as many lengths, once the one before is written out
    layers = 12
    nodes = [
        helper.make_node(
            "Attention", [f"x{i}", "w", "b", "lengths"], [f"x{i + 1}"], f"a{i}", domain="com.microsoft", num_heads=2
        )
        for i in range(layers)
    ]
    weights = [numpy_helper.from_array(v.array, n) for n, v in (("w", JOINED), ("b", BIAS))]
    ports = [
        helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, ["N", "T", 8]),
        helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["N"]),
    ]
    graph = helper.make_graph(nodes, "g", ports, [helper.make_empty_tensor_value_info(f"x{layers}")], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model = Model.from_bytes(proto.SerializeToString()).canonical()
    feeds = {"x0": X, "lengths": LENGTHS}
    assert_same(run(onnx.ModelProto.FromString(model.to_bytes()), feeds), run(proto, feeds))


def test_what_packed_weights_would_round_is_no_noise():
    """Else a check would allow for it."""
    weights = {"table": whole(np.uint8, 6, 16), "steps": floats(6, 2)}
    weights |= {"packed": whole(np.uint8, 6, 1, 16), "scales": floats(6)}
    own = {"domain": "com.microsoft", "bits": 4}
    nodes = [
        helper.make_node(
            "GatherBlockQuantized", ["table", "ids", "steps"], ["x"], quantize_axis=1, block_size=16, **own
        ),
        helper.make_node(
            "MatMulNBits", ["x", "packed", "scales"], ["y"], K=32, N=6, block_size=32, accuracy_level=4, **own
        ),
    ]
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N"])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [ids], [helper.make_empty_tensor_value_info("y")], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    side = OnnxruntimeSide(Model.from_bytes(proto.SerializeToString()))
    assert rounding_noise(side, [{"ids": np.arange(6)}]) < 1e-4


def test_packed_weights_in_a_branch_are_computed_in_full_too():
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (bool c, float[2,32] x, uint8[6,1,16] w, float[6] s) => (float[2,6] y) {
            y = If (c) <then_branch = a () => (float[2,6] p) {
                p = com.microsoft.MatMulNBits<K = 32, N = 6, block_size = 32, accuracy_level = 4>(x, w, s) },
            else_branch = b () => (float[2,6] q) {
                q = com.microsoft.MatMulNBits<K = 32, N = 6, block_size = 32>(x, w, s) }> }"""
    model = Model.from_bytes(onnx.parser.parse_model(text).SerializeToString())
    told = [
        ["accuracy_level" in node.attributes for node in every_node(each.ir.graph)] for each in (model, in_full(model))
    ]
    assert told == [[True, False, False], [False, False, False]]


def test_a_check_computes_packed_weights_in_full():
    """A file may have onnxruntime round the other factor to 8 bits, which would hide what it is compared with."""
    pytest.importorskip("portnet_torch")
    kind, inputs, outputs, attributes = CASES["4 bits"]
    proto, feeds = build(kind, inputs, outputs, {**attributes, "accuracy_level": 4})
    model = Model.from_bytes(proto.SerializeToString())
    (rounded,), (whole,) = run(proto, feeds), run(build(*CASES["4 bits"])[0], feeds)
    assert np.abs(rounded - whole).max() > 1e-3
    report = portnet.check("torch", model)
    assert report.passed
    assert report.max_abs < 1e-4
    assert any("accuracy_level" in node.attributes for node in model.ir.graph)


@pytest.mark.parametrize(
    ("op", "arrays", "attributes", "message"),
    [
        ("MatMulNBits", [(6, 2, 32), (12,)], {"K": 80}, "384 bytes of weights, expected 576"),
        ("MatMulNBits", [(6, 2, 32), (11,)], {}, "11 scales, expected 12"),
        ("MatMulNBits", [(6, 2, 32), (12,), (6, 1)], {}, "6 zero points, expected 12"),
        ("GatherBlockQuantized", [(6, 64), (6, 2)], {"block_size": 1 << 40}, r"\[6, 2\] .* scales, expected \[6, 1\]"),
        ("GatherBlockQuantized", [(6, 64), (6, 2), (6, 1)], {}, r"\[6, 1\] .* zero points, expected \[6, 2\]"),
    ],
)
def test_packed_weights_of_other_sizes_than_the_node_says_are_refused(op, arrays, attributes, message):
    packed, scales, *zeros = arrays
    weights = [Weight(floats(*scales)), *(Weight(whole(np.uint8, *shape)) for shape in zeros)]
    data, sizes = Weight(whole(np.uint8, *packed)), {"bits": 8, "block_size": 32}
    if op == "MatMulNBits":
        case = op, [floats(3, 40), data, *weights], 1, {**sizes, "K": 40, "N": 6, **attributes}
    else:
        case = op, [data, PLACES, *weights], 1, {**sizes, "quantize_axis": 1, **attributes}
    with pytest.raises(ModelError, match=rf"^node 'the_node' \({op}\): got {message}"):
        Model.from_bytes(build(*case)[0].SerializeToString()).canonical()
