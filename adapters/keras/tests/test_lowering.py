"""Networks arrive in Keras channels last, native, named and without a transpose."""

import keras
import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from portnet import Model, zoo

ZOO = ("squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "resnet18", "resnet18_v2")


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"/{output}/{op}", **attributes)


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def moves(lowered):
    names = ("Permute", "Transpose", "Reshape")
    return [made.name for made in lowered.native.operations if type(made).__name__ in names]


@pytest.mark.parametrize("name", ZOO)
def test_zoo_network_is_native_layers_without_a_transpose(engine, name, assert_like_onnxruntime):
    model = zoo.load(name, weights=None)
    lowered = engine.lower(model)
    assert moves(lowered) == []
    assert all(type(layer).__module__.startswith("keras.") for layer in lowered.native.operations)
    size = model.inputs[0].shape[2]
    assert lowered.native.input_shape == (None, size, size, 3)
    assert_like_onnxruntime(lowered, model, array(2, 3, size, size), atol=1e-4)


def test_quantized_network_stays_channels_last(engine, build, assert_like_onnxruntime):
    """As onnxruntime's quantizer writes it: data by tensor, or by channel, and back before each convolution."""
    model = build(
        [
            node("QuantizeLinear", ["x", "s", "z"], "xq"),
            node("DequantizeLinear", ["xq", "s", "z"], "xd"),
            node("DequantizeLinear", ["w", "ws", "wz"], "wd", axis=0),
            node("Conv", ["xd", "wd"], "c", pads=[1, 1, 1, 1]),
            node("Abs", ["c"], "a"),  # without it onnxruntime fuses what it then cannot run
            node("QuantizeLinear", ["a", "cs", "cz"], "cq", axis=1),
            node("DequantizeLinear", ["cq", "cs", "cz"], "cd", axis=1),
            node("Conv", ["cd", "v"], "y"),
        ],
        {"x": ("N", 3, 5, 4)},
        {
            **{"s": np.float32(0.02), "z": np.uint8(128), "w": np.int8(array(4, 3, 3, 3) * 40)},
            **{"ws": np.float32([0.01, 0.02, 0.03, 0.01]), "wz": np.zeros(4, np.int8)},
            **{"cs": np.float32([0.05, 0.02, 0.04, 0.1]), "cz": np.uint8([128, 120, 110, 130]), "v": array(2, 4, 1, 1)},
        },
    )
    lowered = engine.lower(model)
    assert moves(lowered) == []
    assert_like_onnxruntime(lowered, model, array(2, 3, 5, 4), atol=1e-4)


def test_heads_of_attention_are_joined_in_one_move(engine, build, assert_like_onnxruntime):
    model = build(
        [
            node("MatMul", ["x", "v"], "m"),
            node("Transpose", ["m"], "t", perm=[0, 2, 1, 3]),
            node("Reshape", ["t", "s"], "j"),
            node("MatMul", ["j", "w"], "y"),
        ],
        {"x": ("N", 2, "T", 5)},
        {"v": array(5, 3), "w": array(6, 4), "s": np.array([0, 0, 6])},
    )
    lowered = engine.lower(model)
    assert [name for name in moves(lowered) if "permute" in name] == ["m_permute"]
    assert_like_onnxruntime(lowered, model, array(2, 2, 7, 5))


def test_flattened_map_is_followed_by_the_kernel_of_the_dense_layer(engine, build, assert_like_onnxruntime):
    model = build(
        [
            node("Conv", ["x", "w"], "c", pads=[1, 1, 1, 1]),
            node("Flatten", ["c"], "f"),
            node("Relu", ["f"], "r"),
            node("Gemm", ["r", "k", "b"], "y", transB=1),
        ],
        {"x": ("N", 3, 5, 4)},
        {"w": array(6, 3, 3, 3), "k": array(7, 120), "b": array(7)},
    )
    lowered = engine.lower(model)
    assert moves(lowered) == []
    assert_like_onnxruntime(lowered, model, array(2, 3, 5, 4))
    np.testing.assert_array_equal(lowered.weights()["k"], array(7, 120))


def test_flattened_map_is_transposed_where_its_order_is_seen(engine, build, assert_like_onnxruntime):
    model = build(
        [node("Conv", ["x", "w"], "c"), node("Flatten", ["c"], "y")], {"x": ("N", 2, 4, 4)}, {"w": array(3, 2, 3, 3)}
    )
    lowered = engine.lower(model)
    assert len([name for name in moves(lowered) if "permute" in name]) == 1
    assert_like_onnxruntime(lowered, model, array(2, 2, 4, 4))


def test_transposes_around_a_convolution_cost_nothing(engine, build, assert_like_onnxruntime):
    model = build(
        [
            node("Transpose", ["x"], "t", perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], "c"),
            node("Transpose", ["c"], "y", perm=[0, 2, 3, 1]),
        ],
        {"x": ("N", 6, 6, 3)},
        {"w": array(4, 3, 3, 3)},
    )
    lowered = engine.lower(model)
    assert moves(lowered) == []
    assert_like_onnxruntime(lowered, model, array(2, 6, 6, 3))


def test_channel_shuffle_moves_data_once(engine, build, assert_like_onnxruntime):
    model = build(
        [
            node("Conv", ["x", "w"], "c"),
            node("Reshape", ["c", "split"], "s"),
            node("Transpose", ["s"], "t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", ["t", "merge"], "m"),
            node("Conv", ["m", "v"], "y", group=2),
        ],
        {"x": ("N", 3, 5, 5)},
        {
            "w": array(6, 3, 1, 1),
            "v": array(4, 3, 1, 1),
            "split": np.array([0, 2, 3, 5, 5], np.int64),
            "merge": np.array([0, 6, 5, 5], np.int64),
        },
    )
    lowered = engine.lower(model)
    assert len([name for name in moves(lowered) if "permute" in name]) == 1
    assert_like_onnxruntime(lowered, model, array(2, 3, 5, 5))


@pytest.mark.parametrize("shape", [(3, 7, 9), (1, 8, 8)])
def test_batch_height_and_width_stay_free(engine, build, shape, assert_like_onnxruntime):
    model = build(
        [
            node("Conv", ["x", "w"], "c", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("MaxPool", ["c"], "p", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            node("Shape", ["p"], "s", start=0, end=2),
            node("Concat", ["s", "rest"], "d", axis=0),
            node("Reshape", ["p", "d"], "y"),
        ],
        {"x": ("N", 3, "H", "W")},
        {"w": array(4, 3, 3, 3), "rest": np.array([-1], np.int64)},
    )
    batch, height, width = shape
    lowered = engine.lower(model)
    assert lowered.native.input_shape == (None, None, None, 3)
    assert_like_onnxruntime(lowered, model, array(batch, 3, height, width))


BROADCASTS = [((3, 4, 4), (1, 4, 1)), ((3, 4, 1), (4,)), ((2, 5, 7, 7), (1, 1, 7, 1)), ((1, 4), (4, 1)), ((4, 1), (4,))]


@pytest.mark.parametrize(("left", "right"), BROADCASTS)
def test_addition_broadcasts_as_numpy_where_keras_would_see_a_bias(engine, build, left, right):
    add, a, b = [node("Add", ["a", "b"], "y")], array(*left), array(*right, seed=1)
    computed = engine.lower(build(add, {"a": left, "b": right}))
    np.testing.assert_allclose(computed.predict(a, b), a + b, atol=1e-6)
    learned = engine.lower(build(add, {"a": left}, {"b": b}))
    np.testing.assert_allclose(learned.predict(a), a + b, atol=1e-6)


@pytest.mark.parametrize("equation", ["B H I D, B H J D -> B H I J", "BhID,BhJD->BIJh"])
def test_einsum_takes_letters_of_either_case(engine, build, equation, assert_like_onnxruntime):
    model = build([node("Einsum", ["x", "k"], "y", equation=equation)], {"x": (2, 3, 4, 5), "k": (2, 3, 6, 5)}, {})
    assert_like_onnxruntime(engine.lower(model), model, array(2, 3, 4, 5), array(2, 3, 6, 5, seed=1))


def test_names_are_cleaned_and_unique(engine, build):
    model = build([node("Exp", ["x"], "a"), node("Exp", ["a"], "b"), node("Exp", ["b"], "y")], {"x": (2, 3)})
    names = [made.name for made in engine.lower(model).native.operations]
    assert names == ["x", "a_Exp", "b_Exp", "y_Exp"]


def test_names_are_unique_where_keras_names_its_own_as_the_graph_does(engine, build):
    nodes, last = [helper.make_node("Reshape", ["x", "shape"], ["r"], name="reshape")], "r"
    for turn in ("/", "//"):
        deep, flat = f"deep{turn}", f"flat{turn}"
        nodes.append(helper.make_node("SpaceToDepth", [last], [deep], name=f"reshape_{len(turn)}", blocksize=2))
        nodes.append(helper.make_node("DepthToSpace", [deep], [flat], name=f"reshape{turn}", blocksize=2))
        last = flat
    keras.utils.clear_session()  # Keras counts the names that it gives from the start
    model = build(nodes, {"x": ("N", 64)}, {"shape": np.array([-1, 4, 4, 4])}, [last])
    names = [made.name for made in engine.lower(model).native.operations]
    assert len(set(names)) == len(names)


def test_prediction_compiles_once_for_all_batch_sizes(engine, build, monkeypatch):
    lowered = engine.lower(build([node("Relu", ["x"], "y")], {"x": ("N", 3)}))
    lowered.predict(array(1, 3))
    monkeypatch.setattr(type(lowered.native), "__call__", lambda *_, **__: pytest.fail("traced again"))
    for batch in (2, 5):
        assert lowered.predict(array(batch, 3)).shape == (batch, 3)


def test_saved_network_needs_keras_alone(engine, build, tmp_path):
    model = build(
        [node("Conv", ["x", "w"], "c"), node("Erf", ["c"], "e"), node("GlobalMaxPool", ["e"], "y")],
        {"x": ("N", 3, 6, 6)},
        {"w": array(4, 3, 3, 3)},
    )
    lowered = engine.lower(model)
    lowered.native.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    x = array(2, 6, 6, 3)
    np.testing.assert_array_equal(loaded(x), lowered.native(x))


def test_saved_network_keeps_the_type_of_a_number(engine, build, tmp_path):
    """Keras saves an array of no dimensions as a bare number."""
    model = build([node("Gather", ["x", "last"], "y", axis=1)], {"x": ("N", 5, 3)}, {"last": np.array(-1)})
    lowered = engine.lower(model)
    lowered.native.save(tmp_path / "net.keras")
    x = array(2, 5, 3)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "net.keras")(x), x[:, -1])


def test_layers_do_not_keep_the_weights_that_they_began_with(engine):
    native = engine.lower(zoo.load("mobilenet_v2", weights=None, size=64)).native
    for layer in native.layers:
        begun = {name: value for name, value in layer.get_config().items() if name.endswith("_initializer")}
        assert all(entry["module"] == "keras.initializers" for entry in begun.values() if entry)
    copy = keras.models.clone_model(native)
    assert [variable.shape for variable in copy.weights] == [variable.shape for variable in native.weights]
    assert not copy.get_layer("features_0_0").kernel.numpy().any()  # zeros, as it says in the configuration
    assert [v.trainable for v in copy.weights] == [v.trainable for v in native.weights]


RANGES = [("float16", (0, 1, 0.1)), ("float32", (5, -3, -0.7)), ("int64", (9, -5, -4)), ("int64", (5, 2, 1))]


@pytest.mark.parametrize(("kind", "ends"), RANGES)
def test_a_range_is_counted_in_a_type_that_is_wide_enough(engine, kind, ends):
    """In float16 the first is ten numbers: 1 / 0.1 is exact there, and a little more elsewhere."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    ports = [helper.make_tensor_value_info(name, code, []) for name in ("start", "limit", "delta")]
    result = helper.make_tensor_value_info("y", code, ["n"])
    graph = helper.make_graph([node("Range", ["start", "limit", "delta"], "y")], "range", ports, [result])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feeds = {port.name: np.array(end, kind) for port, end in zip(ports, ends, strict=True)}
    expected = ReferenceEvaluator(proto).run(None, feeds)[0]
    got = engine.lower(Model.from_bytes(proto.SerializeToString())).run(feeds)["y"]
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-3)
