"""Every kind of Keras layer that the core's translator knows: Keras and onnxruntime give the same numbers."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers, ops
from portnet_keras import Engine
from portnet_keras.capture import translation_of

import portnet
from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.errors import UnsupportedError

FILM = (3, 7, 6, 2)
IMAGE, EVEN, SERIES, VOLUME, ROW = (9, 7, 4), (8, 8, 4), (11, 4), (5, 6, 4, 2), (6,)

CASES = {
    "Conv1D causal": (SERIES, lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2)),
    "Conv1D same": (SERIES, lambda: layers.Conv1D(5, 4, strides=2, padding="same", activation="gelu")),
    "Conv2D valid": (IMAGE, lambda: layers.Conv2D(5, (3, 2), strides=(2, 1), use_bias=False)),
    "Conv2D same, odd": (IMAGE, lambda: layers.Conv2D(5, 3, strides=2, padding="same", activation="relu6")),
    "Conv2D same, even": (EVEN, lambda: layers.Conv2D(5, 3, strides=2, padding="same", activation="swish")),
    "Conv2D groups": (IMAGE, lambda: layers.Conv2D(6, 3, groups=2, activation="hard_sigmoid")),
    "Conv2D dilated": (IMAGE, lambda: layers.Conv2D(3, 3, dilation_rate=2, padding="same")),
    "Conv3D": (VOLUME, lambda: layers.Conv3D(3, 2, padding="same", strides=2)),
    "DepthwiseConv2D": (EVEN, lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)),
    "SeparableConv2D": (IMAGE, lambda: layers.SeparableConv2D(5, 3, activation="elu")),
    "SeparableConv1D": (SERIES, lambda: layers.SeparableConv1D(5, 3)),
    "Conv2DTranspose same": (IMAGE, lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "Conv2DTranspose valid": (IMAGE, lambda: layers.Conv2DTranspose(3, 4, strides=2)),
    "Conv1DTranspose": (SERIES, lambda: layers.Conv1DTranspose(3, 3, strides=2, padding="same")),
    "Dense": (ROW, lambda: layers.Dense(4, activation="selu")),
    "Dense on maps": (IMAGE, lambda: layers.Dense(5, activation="softmax")),
    "BatchNormalization": (IMAGE, lambda: layers.BatchNormalization(scale=False)),
    "BatchNormalization axis 1": (IMAGE, lambda: layers.BatchNormalization(axis=1, center=False)),
    "LayerNormalization": (IMAGE, lambda: layers.LayerNormalization(epsilon=1e-2)),
    "LayerNormalization of two axes": (IMAGE, lambda: layers.LayerNormalization(axis=(1, 2, 3))),
    "GroupNormalization": (IMAGE, lambda: layers.GroupNormalization(2)),
    "UnitNormalization": (IMAGE, lambda: layers.UnitNormalization()),
    "MaxPooling2D same": (EVEN, lambda: layers.MaxPooling2D(3, strides=2, padding="same")),
    "AveragePooling2D same": (EVEN, lambda: layers.AveragePooling2D(3, strides=2, padding="same")),
    "AveragePooling1D": (SERIES, lambda: layers.AveragePooling1D(3)),
    "MaxPooling3D": (VOLUME, lambda: layers.MaxPooling3D(2)),
    "GlobalAveragePooling2D": (IMAGE, lambda: layers.GlobalAveragePooling2D(keepdims=True)),
    "GlobalMaxPooling1D": (SERIES, lambda: layers.GlobalMaxPooling1D()),
    "ZeroPadding2D": (IMAGE, lambda: layers.ZeroPadding2D(((1, 2), (0, 3)))),
    "Cropping2D": (IMAGE, lambda: layers.Cropping2D(((1, 2), (0, 3)))),
    "ConvLSTM2D": (FILM, lambda: layers.ConvLSTM2D(3, (3, 2), strides=(2, 1), padding="same")),
    "ConvLSTM2D sequences": (FILM, lambda: layers.ConvLSTM2D(2, 2, return_sequences=True, activation="relu")),
    "ConvLSTM1D": (IMAGE, lambda: layers.ConvLSTM1D(3, 3, dilation_rate=2, use_bias=False)),
    "UpSampling2D nearest": (IMAGE, lambda: layers.UpSampling2D((2, 3))),
    "UpSampling2D bilinear": (IMAGE, lambda: layers.UpSampling2D(2, interpolation="bilinear")),
    "UpSampling2D bicubic": (IMAGE, lambda: layers.UpSampling2D(2, interpolation="bicubic")),
    "UpSampling1D": (SERIES, lambda: layers.UpSampling1D(3)),
    "Flatten": (IMAGE, lambda: layers.Flatten()),
    "Reshape": (IMAGE, lambda: layers.Reshape((7, -1))),
    "Permute": (IMAGE, lambda: layers.Permute((2, 3, 1))),
    "RepeatVector": (ROW, lambda: layers.RepeatVector(3)),
    "LeakyReLU": (IMAGE, lambda: layers.LeakyReLU(negative_slope=0.2)),
    "PReLU shared": (IMAGE, lambda: layers.PReLU(shared_axes=(1, 2))),
    "PReLU": (IMAGE, lambda: layers.PReLU()),
    "ELU": (IMAGE, lambda: layers.ELU(0.7)),
    "ReLU": (IMAGE, lambda: layers.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2)),
    "Softmax": (IMAGE, lambda: layers.Softmax(axis=-1)),
    "Rescaling": (IMAGE, lambda: layers.Rescaling(1 / 127.5, offset=-1)),
    "Normalization": (IMAGE, lambda: layers.Normalization(mean=[1, 2, 3, 4], variance=[1, 4, 9, 16])),
    "Resizing": (IMAGE, lambda: layers.Resizing(12, 5)),
    "Resizing antialiased": (IMAGE, lambda: layers.Resizing(4, 20, antialias=True)),
    "Resizing bicubic, antialiased": (IMAGE, lambda: layers.Resizing(20, 4, interpolation="bicubic", antialias=True)),
    "Resizing bicubic": (IMAGE, lambda: layers.Resizing(18, 14, interpolation="bicubic")),
    "LSTM": (SERIES, lambda: layers.LSTM(5)),
    "LSTM sequences": (SERIES, lambda: layers.LSTM(5, return_sequences=True, go_backwards=True)),
    "GRU": (SERIES, lambda: layers.GRU(5)),
    "GRU reset before": (SERIES, lambda: layers.GRU(5, reset_after=False, return_sequences=True)),
    "SimpleRNN": (SERIES, lambda: layers.SimpleRNN(5, activation="relu")),
    "Bidirectional": (SERIES, lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
    "Bidirectional sum": (SERIES, lambda: layers.Bidirectional(layers.GRU(3), merge_mode="sum")),
    "TimeDistributed": ((3, *IMAGE), lambda: layers.TimeDistributed(layers.Conv2D(2, 3))),
    "GaussianNoise": (IMAGE, lambda: layers.GaussianNoise(0.3)),
    "Discretization": (ROW, lambda: layers.Discretization([-0.5, 0.0, 0.7])),
    "Discretization multi_hot": (ROW, lambda: layers.Discretization([-0.5, 0.0, 0.7], output_mode="multi_hot")),
    "Dense of one unit on a sequence": (SERIES, lambda: layers.Dense(1)),
    "RandomFlip": (IMAGE, lambda: layers.RandomFlip()),
} | {
    f"Activation {name}": (IMAGE, lambda name=name: layers.Activation(name))
    for name in (
        "relu",
        "sigmoid",
        "tanh",
        "softplus",
        "softsign",
        "silu",
        "mish",
        "exponential",
        "hard_swish",
        "linear",
        "glu",
        "squareplus",
    )
}


def joined(join):
    """Return a network of two branches and what joins them."""
    x = keras.Input(IMAGE, name="x")
    return keras.Model(x, join(layers.Conv2D(4, 3, padding="same")(x), layers.Conv2D(4, 1)(x)))


JOINS = {
    "Add": lambda a, b: layers.Add()([a, b]),
    "Subtract": lambda a, b: layers.Subtract()([a, b]),
    "Multiply": lambda a, b: layers.Multiply()([a, b]),
    "Average": lambda a, b: layers.Average()([a, b]),
    "Maximum": lambda a, b: layers.Maximum()([a, b]),
    "Minimum": lambda a, b: layers.Minimum()([a, b]),
    "Concatenate channels": lambda a, b: layers.Concatenate()([a, b]),
    "Concatenate rows": lambda a, b: layers.Concatenate(axis=1)([a, b]),
    "Dot": lambda a, b: layers.Dot(axes=-1)([layers.Reshape((63, 4))(a), layers.Reshape((63, 4))(b)]),
    "operators": lambda a, b: ops.mean((a * 2 - b) / (ops.abs(b) + 1.0), axis=(1, 2)),
    "attention": lambda a, b: layers.MultiHeadAttention(2, 3)(layers.Reshape((63, 4))(a), layers.Reshape((63, 4))(b)),
    "additive attention": lambda a, b: layers.AdditiveAttention()(
        [layers.Reshape((63, 4))(a), layers.Reshape((63, 4))(b), layers.Reshape((63, 4))(a)]
    ),
    "shared": lambda a, b: (lambda layer: layers.Add()([layer(a), layer(b)]))(layers.Conv2D(3, 1)),
    "a tensor in two orders": lambda a, b: (
        ops.matmul(a, ops.transpose(b, (0, 1, 3, 2))) + ops.matmul(a, ops.transpose(a, (0, 1, 3, 2)))
    ),
    "a factor of numbers": lambda a, b: ops.matmul(a - b, np.arange(8.0).reshape(4, 2)),
    "softmax of some": lambda a, b: layers.Softmax(axis=2)(a, mask=b > 0.5),
    "nested": lambda a, b: keras.Sequential([keras.Input((9, 7, 4)), layers.Conv2D(3, 2), layers.ReLU()])(a),
}


def compared(network, x):
    """Return what Keras and what onnxruntime compute, in the captured network's order of axes."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.dtype.startswith("float"):
            draw = rng.standard_normal(weight.shape) * 0.4
            weight.assign(np.abs(draw) + 0.5 if "variance" in weight.path else draw)
    captured, source = Engine().capture(network, CaptureOptions())
    assert "tf2onnx" not in captured.way
    model = captured.model
    feeds = {model.inputs[0].name: np.ascontiguousarray(x.transpose(source._translation.inputs[0]))}
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    expected = source.run(feeds)
    return session.run(None, feeds), list(expected.values()), model


@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_as_in_keras(name):
    shape, build = CASES[name]
    x = keras.Input(shape, name="x")
    network = keras.Model(x, build()(x))
    got, expected, model = compared(network, np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32))
    assert model.parameter_count == sum(weight.shape.num_elements() for weight in network.trainable_weights)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", JOINS)
def test_layers_join_as_in_keras(name):
    network = joined(JOINS[name])
    got, expected, model = compared(network, np.random.default_rng(1).standard_normal((2, *IMAGE)).astype(np.float32))
    assert got[0].shape == expected[0].shape
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-4, atol=2e-5)
    assert model.parameter_count == sum(weight.shape.num_elements() for weight in network.trainable_weights)


def test_the_one_number_of_plain_attention_trains():
    x = keras.Input((5, 4), name="x")
    network = keras.Model(x, layers.Attention(use_scale=True)([x, x]))
    got, expected, model = compared(network, np.random.default_rng(1).standard_normal((3, 5, 4)).astype(np.float32))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-4, atol=2e-5)
    assert model.parameter_count == 1


def stack(**options):
    cells = [layers.LSTMCell(4), layers.GRUCell(5), layers.LSTMCell(3, use_bias=False), layers.SimpleRNNCell(2)]
    x = keras.Input((6, 3), name="x")
    return keras.Model(x, layers.RNN(cells, name="stack", **options)(x))


@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_sequences": True, "return_state": True}])
def test_cells_that_stand_on_one_another_are_layers(options, tmp_path):
    network = stack(**options)
    x = np.random.default_rng(1).standard_normal((3, 6, 3)).astype(np.float32)
    got, expected, model = compared(network, x)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)
    assert model.parameter_count == sum(weight.shape.num_elements() for weight in network.trainable_weights)
    for name in ("stack.keras", "stack.h5"):
        network.save(tmp_path / name)
        read = portnet.capture(tmp_path / name)
        session = onnxruntime.InferenceSession(read.to_bytes(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected[0], rtol=1e-4, atol=2e-5)


def reader():
    x = keras.Input((7,), dtype="int32", name="words")
    return keras.Model(x, layers.LSTM(4)(layers.Embedding(12, 5, name="table")(x)), name="reader")


def test_whole_numbers_become_rows_of_one_and_zeros():
    x = keras.Input((1,), dtype="int32", name="x")
    network = keras.Model(x, layers.CategoryEncoding(5, "one_hot")(x))
    got, expected, _ = compared(network, np.array([[2], [0], [4]], np.int32))
    np.testing.assert_array_equal(got[0], expected[0])


def test_numbers_are_normalized_all_alike(tmp_path):
    norm = layers.Normalization(axis=None)
    norm.adapt(np.arange(10.0))
    x = keras.Input((1,), name="x")
    network = keras.Model(x, [norm(x), layers.Discretization([1.0, 4.0])(x)])
    assert capture_original(network).report.passed
    network.save(tmp_path / "net.h5")  # which does not say that they are layers
    portnet.capture(tmp_path / "net.h5")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_network_of_mixed_precision_is_compared_in_single(tmp_path, ending):
    x = keras.Input(ROW, name="x")
    narrow = layers.Dense(16, activation="relu", dtype="mixed_float16")
    network = keras.Model(x, layers.Dense(3, activation="softmax", dtype="float32")(narrow(x)))
    network.save(tmp_path / f"net{ending}")
    assert capture_original(tmp_path / f"net{ending}").report.passed
    result = capture_original(network)
    assert result.report.passed
    assert "mixed_float16" in result.notes[0]
    assert narrow.compute_dtype == "float16"


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
def test_whole_numbers_become_what_a_row_holds(mode):
    x = keras.Input((3,), dtype="int32", name="x")
    network = keras.Model(x, layers.CategoryEncoding(5, mode)(x))
    got, expected, _ = compared(network, np.array([[2, 2, 1], [0, 4, 4]], np.int32))
    np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
def test_of_more_axes_the_one_behind_the_batch_is_encoded(mode):
    x = keras.Input((2, 3), name="x")
    network = keras.Model(x, layers.Discretization([-0.5, 0.0, 0.7], output_mode=mode)(x))
    got, expected, _ = compared(network, np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32))
    np.testing.assert_array_equal(got[0], expected[0])


def test_weights_of_counts_and_masks_of_numbers_are_refused():
    x = keras.Input((3,), dtype="int32")
    counts = keras.Model(x, layers.CategoryEncoding(5, "count")(x, count_weights=np.array([[1.0, 2.0, 3.0]])))
    with pytest.raises(UnsupportedError, match="count_weights"):
        translation_of(counts, CaptureOptions())
    y = keras.Input((3,))
    masked = keras.Model(y, layers.Softmax()(y, np.array([[True, False, True]])))
    with pytest.raises(UnsupportedError, match="a mask of numbers"):
        translation_of(masked, CaptureOptions())


def test_an_activation_of_the_users_own_is_not_taken_for_none():
    x = keras.Input(ROW)
    network = keras.Model(x, layers.Dense(3, activation=lambda v: v * 2)(x))
    with pytest.raises(UnsupportedError, match="Dense with activation 'a function of its own'"):
        translation_of(network, CaptureOptions())


def test_words_are_looked_up():
    network = reader()
    words = np.random.default_rng(0).integers(0, 12, (3, 7)).astype(np.int32)
    got, expected, _ = compared(network, words)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-4, atol=1e-5)
