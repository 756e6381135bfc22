"""What the native network looks like: layers, names, memory format, free sizes, export."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

import portnet
from portnet import zoo
from portnet.errors import ModelError, UnsupportedError, WeightsError
from portnet.graph.model import Model

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def by_onnxruntime(model: Model, *inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([port.name for port in session.get_inputs()], inputs, strict=True)))


def agree(lowered, model: Model, *inputs: np.ndarray, atol: float = 1e-5) -> None:
    got = lowered.predict(*inputs)
    for ours, theirs in zip(got if isinstance(got, list) else [got], by_onnxruntime(model, *inputs), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol)


@pytest.fixture(scope="module")
def mobilenet(engine):
    model = zoo.load("mobilenet_v2", weights=None)
    return model, engine.lower(model)


def test_zoo_network_is_native(mobilenet):
    _, lowered = mobilenet
    assert isinstance(lowered.native, fx.GraphModule)
    kinds = {type(module) for module in lowered.native.modules() if not list(module.children())}
    assert kinds == {nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.Dropout}
    called = {node.target for node in lowered.native.graph.nodes if node.op in ("call_function", "call_method")}
    assert {getattr(target, "__name__", target) for target in called} == {"relu6", "add", "mean", "flatten"}


def test_state_dict_keys_are_the_initializers(mobilenet):
    model, lowered = mobilenet
    trained = {name for name, role in model.canonical().roles.items() if role.value != "constant"}
    keys = {key for key in lowered.native.state_dict() if not key.endswith("num_batches_tracked")}
    assert keys == trained


def test_code_reads_like_a_network(mobilenet):
    _, lowered = mobilenet
    assert "torch.nn.functional.relu6(" in lowered.native.code
    assert "self.classifier" in lowered.native.code


def test_images_stay_channels_last_through_every_convolution(mobilenet):
    _, lowered = mobilenet
    seen = []
    convs = [module for module in lowered.native.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(lambda m, i, o: seen.append((i[0], m.weight, o))) for conv in convs]
    lowered.predict(normal(2, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(convs)
    assert all(t.is_contiguous(memory_format=torch.channels_last) for call in seen for t in call)


def test_outputs_are_contiguous_and_inputs_of_any_strides(engine, build):
    weight = normal(4, 3, 3, 3)
    model = build([helper.make_node("Conv", ["x", "w"], ["logits"])], {"x": ["N", 3, 8, 8]}, {"w": weight})
    lowered = engine.lower(model)
    x = normal(2, 8, 8, 3).transpose(0, 3, 1, 2)
    expected = lowered.predict(np.ascontiguousarray(x))
    assert expected.flags.c_contiguous
    assert expected.flags.owndata
    np.testing.assert_array_equal(lowered.predict(x), expected)
    np.testing.assert_allclose(lowered.predict(x[:, :, ::-1]), lowered.predict(x[:, :, ::-1].copy()), atol=1e-6)


@pytest.fixture
def free_batch(build) -> Model:
    """x.reshape(shape(x)[0], -1) as exporters write it, then a MatMul."""
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["a"], "conv"),
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batch1"]),
        helper.make_node("Concat", ["batch1", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["a", "target"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "fc.weight"], ["logits"], "fc"),
    ]
    arrays = {
        "conv.weight": normal(4, 3, 3, 3),
        "fc.weight": normal(144, 5),
        "zero": np.array(0),
        "axes": np.array([0]),
        "minus": np.array([-1]),
    }
    return build(nodes, {"x": ["N", 3, 8, 8]}, arrays)


def test_shape_arithmetic_is_arithmetic_on_sizes(engine, free_batch):
    lowered = engine.lower(free_batch)
    assert not [n for n in lowered.native.graph.nodes if n.op == "get_attr"]
    for batch in (1, 4):
        agree(lowered, free_batch, normal(batch, 3, 8, 8))


def test_torch_export_with_a_free_batch(engine, free_batch):
    native = engine.lower(free_batch).native.eval()
    x = torch.from_numpy(normal(2, 3, 8, 8))
    exported = torch.export.export(native, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    other = torch.from_numpy(normal(5, 3, 8, 8))
    torch.testing.assert_close(exported.module()(other), native(other))


def test_zoo_network_compiles_whole(mobilenet):
    native = mobilenet[1].native.eval()
    x = torch.from_numpy(normal(2, 3, 64, 64))
    compiled = torch.compile(native, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), native(x))


def test_height_and_width_may_be_free(engine, build):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["logits"]),
    ]
    model = build(nodes, {"x": ["N", 3, "H", "W"]}, {"w": normal(4, 3, 3, 3)})
    lowered = engine.lower(model)
    for height, width in ((8, 8), (7, 10)):
        agree(lowered, model, normal(2, 3, height, width))


def test_matmul_and_gemm_become_linear_whatever_their_layout(engine, build):
    nodes = [
        helper.make_node("MatMul", ["x", "a.weight"], ["h"], "a"),
        helper.make_node("Gemm", ["h", "b.weight", "b.bias"], ["i"], "b"),
        helper.make_node("Gemm", ["i", "c.weight", "c.bias"], ["logits"], "c", transB=1),
    ]
    arrays = {
        "a.weight": normal(3, 4),
        "b.weight": normal(4, 5),
        "b.bias": normal(1, 5),
        "c.weight": normal(6, 5),
        "c.bias": normal(6),
    }
    model = build(nodes, {"x": ["N", 3]}, arrays)
    lowered = engine.lower(model)
    assert all(isinstance(module, nn.Linear) for module in lowered.native.children())
    agree(lowered, model, normal(7, 3))
    assert all(np.array_equal(lowered.weights()[name], array) for name, array in arrays.items())
    assert lowered.native.a.weight.shape == (4, 3)


def test_a_head_at_two_scales_is_one_layer_called_twice(engine, build):
    nodes = [
        helper.make_node("MaxPool", ["x"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["x", "head.weight", "head.bias"], ["a"], "a", pads=[1] * 4),
        helper.make_node("Conv", ["half", "head.weight", "head.bias"], ["b"], "b", pads=[1] * 4),
    ]
    arrays = {"head.weight": normal(4, 3, 3, 3), "head.bias": normal(4)}
    model = build(nodes, {"x": ["N", 3, 8, 8]}, arrays, outputs=["a", "b"])
    lowered = engine.lower(model)
    assert [node.target for node in lowered.native.graph.nodes if node.op == "call_module"] == ["head", "head"]
    agree(lowered, model, normal(2, 3, 8, 8))


def test_a_weight_of_two_layers_is_one_parameter(engine, build):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "w"], ["logits"]),
    ]
    model = build(nodes, {"x": ["N", 3, 8, 8]}, {"w": normal(3, 3, 3, 3)})
    lowered = engine.lower(model)
    assert lowered.trainable_count == 81
    agree(lowered, model, normal(2, 3, 8, 8), atol=1e-4)


def test_a_bias_after_a_matmul_is_the_linear_layers(engine, build):
    nodes = [
        helper.make_node("MatMul", ["x", "fc.weight"], ["h"], "fc"),
        helper.make_node("Add", ["fc.bias", "h"], ["logits"], "add"),
    ]
    arrays = {"fc.weight": normal(4, 5), "fc.bias": normal(5)}
    model = build(nodes, {"x": ["N", 3, 4]}, arrays)
    lowered = engine.lower(model)
    assert [node.op for node in lowered.native.graph.nodes] == ["placeholder", "call_module", "output"]
    assert lowered.native.fc.bias is not None
    agree(lowered, model, normal(2, 3, 4))


RECURRENT = {
    "LSTM": (4, nn.LSTM, {}),
    "GRU": (3, nn.GRU, {"linear_before_reset": 1}),
    "RNN": (1, nn.RNN, {}),
    "GRU of ours": (3, None, {"linear_before_reset": 0}),
}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(engine, build, name, direction):
    gates, layer, options = RECURRENT[name]
    d, hidden, width = 2 if direction == "bidirectional" else 1, 5, 3
    arrays = {
        "w": normal(d, gates * hidden, width),
        "r": normal(d, gates * hidden, hidden),
        "b": normal(d, 2 * gates * hidden),
    }
    states = ["logits", "h", "c"] if name == "LSTM" else ["logits", "h"]
    node = helper.make_node(
        name.split()[0], ["x", "w", "r", "b"], states, "rnn", hidden_size=hidden, direction=direction, **options
    )
    model = build([node], {"x": [6, "N", width]}, arrays, outputs=states)
    lowered = engine.lower(model)
    agree(lowered, model, normal(6, 2, width))
    assert any(type(module) is layer for module in lowered.native.modules()) == (layer is not None)
    for key, array in arrays.items():
        np.testing.assert_array_equal(lowered.weights()[key], array)
    new = {key: normal(*array.shape) for key, array in arrays.items()}
    lowered.set_weights(new)
    agree(lowered, model.with_weights(new), normal(6, 2, width))


NORMS = {
    "LayerNormalization": (nn.LayerNorm, {"axis": -1}, (8,)),
    "InstanceNormalization": (nn.InstanceNorm2d, {}, (6,)),
    "GroupNormalization": (nn.GroupNorm, {"num_groups": 3}, (6,)),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_are_layers(engine, build, name):
    layer, attributes, shape = NORMS[name]
    node = helper.make_node(name, ["x", "n.weight", "n.bias"], ["logits"], "n", **attributes)
    model = build([node], {"x": ["N", 6, 8, 8]}, {"n.weight": normal(*shape), "n.bias": normal(*shape)})
    lowered = engine.lower(model)
    assert type(lowered.native.n) is layer
    agree(lowered, model, normal(2, 6, 8, 8))


def test_control_flow_keeps_what_it_captures(engine, build):
    def branch(name, op):
        node = helper.make_node(op, ["h", "w"], [f"{name}_out"])
        return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(f"{name}_out")])

    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["logits"], "choose", then_branch=branch("t", "MatMul"), else_branch=branch("e", "Add")
        ),
    ]
    model = build(nodes, {"x": ["N", 4]}, {"w": normal(4, 4), "zero": np.float32(0)})
    lowered = engine.lower(model)
    x = np.abs(normal(4, 4))
    agree(lowered, model, x)
    agree(lowered, model, -x)


def test_set_weights_refuses_names_and_shapes(mobilenet):
    _, lowered = mobilenet
    with pytest.raises(WeightsError, match="no parameter named 'nonsense'"):
        lowered.set_weights({"nonsense": np.zeros(1)})
    with pytest.raises(WeightsError, match="got shape"):
        lowered.set_weights({"classifier.1.bias": np.zeros(3, np.float32)})


def test_a_wrong_input_is_one_clear_line(mobilenet):
    _, lowered = mobilenet
    with pytest.raises(ModelError, match="got float64, expected float32"):
        lowered.predict(np.zeros((1, 3, 224, 224)))
    with pytest.raises(ModelError, match="got 0 inputs"):
        lowered.predict()


def test_an_unknown_op_is_refused_with_op_opset_and_node(engine, build):
    model = build([helper.make_node("LRN", ["x"], ["logits"], "odd", size=3)], {"x": [1, 3, 4, 4]}, {})
    model.ir.graph[0].op_type = "Strange"
    with pytest.raises((UnsupportedError, ModelError), match=r"Strange .*'odd'"):
        engine.lower(model)


def test_low_precision_crosses_the_border(engine):
    import ml_dtypes

    for kind, dtype in ((TensorProto.BFLOAT16, ml_dtypes.bfloat16), (TensorProto.UINT32, np.uint32)):
        ports = [helper.make_tensor_value_info(name, kind, ["N"]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", ports[:1], ports[1:])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        x = np.array([1, 2, 3], dtype)
        y = engine.lower(Model.from_bytes(proto.SerializeToString())).predict(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.astype(np.float32), [2, 4, 6])


def test_limit_threads(engine):
    before = torch.get_num_threads()
    assert engine.limit_threads(1) == before
    assert torch.get_num_threads() == 1
    assert engine.limit_threads(before) == 1
    assert torch.get_num_threads() == before


def test_importing_the_package_imports_no_torch():
    code = "import sys, portnet_torch; portnet_torch.Engine(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_embedding_counts_negative_indices_from_the_end(engine):
    table = normal(10, 4)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["emb.weight", "ids"], ["y"], "emb")],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(table, "emb.weight")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(proto)
    lowered = engine.lower(Model.from_bytes(proto.SerializeToString()))
    assert type(lowered.native.emb) is nn.Embedding
    np.testing.assert_array_equal(lowered.predict(np.array([0, -1, 3])), table[[0, -1, 3]])


def test_a_layer_that_is_called_as_a_word_of_python_is_given_another_name():
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,3] x) => (float[N,2] y)
        { y = Gemm(x, weight, bias) }"""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("lstm/while/weight", (3, 2)), ("lstm/if/bias", (2,))):
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    proto.graph.node[0].input[1:] = ["lstm/while/weight", "lstm/if/bias"]
    model = Model.from_bytes(proto.SerializeToString())
    assert portnet.check(model, "torch").passed
