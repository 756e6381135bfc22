"""Attention and layers of several inputs leave out the steps that Keras leaves out, and train; wrappers, resizing."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers
from portnet_keras import Engine

import portnet
from portnet.adapter import CaptureOptions, OptimizerSpec, ParameterPlan, TrainPlan

WORDS = np.array(
    [
        [3, 5, 2, 7, 0, 0, 0],
        [0, 0, 4, 1, 6, 2, 8],
        [0, 2, 0, 5, 0, 0, 3],
        [0, 0, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6, 7],
    ],
    np.int32,
)
OTHERS = np.array(
    [[0, 1, 1, 2, 0, 0, 9], [3, 0, 0, 0, 0, 0, 0], [0] * 7, [1, 2, 0, 4, 0, 6, 7], [0, 0, 0, 8, 9, 0, 0]], np.int32
)


def heads(*args, **keywords):
    return layers.MultiHeadAttention(2, 3, *args, **keywords)


def shared(**keywords):
    return layers.GroupQueryAttention(3, 4, 2, **keywords)


def flat_pair(x, y):
    return layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(y)])


def encoder(x):
    y = layers.Add()([x, heads(dropout=0.1)(x, x)])
    y = layers.LayerNormalization()(y)
    return layers.LSTM(3)(layers.Add()([y, heads()(y, y)]))


ONE = {
    "attention": lambda x: layers.Attention()([x, x]),
    "scaled": lambda x: layers.Attention(use_scale=True)([layers.Dense(5)(x), x]),
    "three inputs": lambda x: layers.Attention()([layers.Dense(5)(x), layers.Dense(4)(x), x]),
    "concat": lambda x: layers.Attention(score_mode="concat", use_scale=True)([x, x]),
    "causal": lambda x: layers.Attention()([x, x], use_causal_mask=True),
    "scores": lambda x: layers.Attention()([x, x], return_attention_scores=True)[1],
    "attention, then LSTM": lambda x: layers.LSTM(3)(layers.Attention()([x, x])),
    "additive": lambda x: layers.AdditiveAttention()([x, x]),
    "additive, causal": lambda x: layers.AdditiveAttention()([x, x], use_causal_mask=True),
    "heads": lambda x: heads()(x, x),
    "heads, causal": lambda x: heads()(x, x, use_causal_mask=True),
    "heads with dropout": lambda x: heads(dropout=0.2)(x, x),
    "heads with scores": lambda x: flat_pair(*heads()(x, x, return_attention_scores=True)),
    "heads, then LSTM": lambda x: layers.LSTM(3)(heads(value_dim=2, output_shape=6)(x, x)),
    "heads, gated, in a window": lambda x: heads(use_gate=True, sliding_window=2)(x, x),
    "shared heads": lambda x: shared()(x, x),
    "shared heads, causal": lambda x: layers.LSTM(2)(shared(use_gate=True)(x, x, use_causal_mask=True)),
    "shared heads, no mask": lambda x: shared(use_bias=False, sliding_window=3)(layers.Conv1D(5, 1)(x), x + 1.0),
    "partly masked": lambda x: layers.LSTM(3)(layers.Add()([x, layers.Conv1D(5, 1)(x)])),
    "operator": lambda x: layers.LSTM(3)(x + 1.0),
    "encoder": encoder,
    "each step": lambda x: layers.LSTM(3)(layers.TimeDistributed(layers.Dense(4))(x)),
    "both ways": lambda x: layers.Bidirectional(layers.GRU(3))(layers.Multiply()([x, layers.Dense(5)(x)])),
}
TWO = {
    "one sequence at another": lambda x, y: heads()(x, y),
    "one sequence at another, keys apart": lambda x, y: heads()(x, y, key=layers.Dense(4)(y)),
    "shared heads at another": lambda x, y: shared()(x, y),
    "attention at another": lambda x, y: layers.Attention()([x, y]),
    **{
        kind: lambda x, y, kind=kind: layers.LSTM(3)(getattr(layers, kind)()([x, y]))
        for kind in ("Add", "Subtract", "Average", "Maximum", "Minimum", "Concatenate")
    },
    "behind each other": lambda x, y: layers.LSTM(3)(layers.Concatenate(axis=1)([x, y])),
    "dot": lambda x, y: layers.Dot(axes=2)([x, y]),
}
CASES = {**{name: (build, 1) for name, build in ONE.items()}, **{name: (build, 2) for name, build in TWO.items()}}


def reader(name):
    """Return a network of one or two sequences of words, every array drawn anew."""
    build, count = CASES[name]
    inputs = [keras.Input((7,), dtype="int32", name=f"words_{i}") for i in range(count)]
    network = keras.Model(inputs, build(*(layers.Embedding(12, 5, mask_zero=True)(x) for x in inputs)), name="reader")
    rng = np.random.default_rng(4)
    for weight in network.weights:
        if "seed" not in weight.path:
            weight.assign(rng.standard_normal(weight.shape) * 0.5)
    return network


def captured(network):
    found, _ = Engine().capture(network, CaptureOptions())
    assert "tf2onnx" not in found.way
    return found.model


def run(model, *arrays):
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {port.name: array for port, array in zip(session.get_inputs(), arrays, strict=True)})[0]


def arrays_for(name):
    return [WORDS, OTHERS][: CASES[name][1]]


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_keras_computes_and_every_weight_trains(name):
    network, arrays = reader(name), arrays_for(name)
    model = captured(network)
    expected = np.asarray(network(arrays))
    np.testing.assert_allclose(run(model, *arrays), expected, rtol=1e-4, atol=1e-5)
    assert model.parameter_count == sum(np.prod(weight.shape) for weight in network.trainable_weights)
    unmasked = [np.where(array == 0, 11, array) for array in arrays]  # a mask that does nothing proves nothing
    assert not np.allclose(np.asarray(network(unmasked)), expected, atol=1e-3)


FILES = ["scaled", "encoder", "heads, gated, in a window", "shared heads, causal", "Maximum", "Concatenate"]


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_alike(name, tmp_path):
    network, arrays = reader(name), arrays_for(name)
    for file in ("net.keras", "net.h5"):
        network.save(tmp_path / file)
        model = portnet.capture(tmp_path / file)
        np.testing.assert_allclose(run(model, *arrays), np.asarray(network(arrays)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", ["torch", "keras", "gluon"])
@pytest.mark.parametrize("name", ["causal", "heads with dropout", "shared heads", "encoder", "Concatenate"])
def test_every_engine_runs_it(name, to):
    model, arrays = captured(reader(name)), arrays_for(name)
    lowered = portnet.engine(to).lower(model)
    feeds = {port.name: array for port, array in zip(model.inputs, arrays, strict=True)}
    np.testing.assert_allclose(next(iter(lowered.run(feeds).values())), run(model, *arrays), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", ["torch", "keras"])
def test_a_step_of_training_is_keras_own(to):
    x = keras.Input((7,), dtype="int32", name="words")
    y = layers.Embedding(12, 5, mask_zero=True)(x)
    y = layers.LSTM(3)(layers.Attention(use_scale=True)([layers.Dense(5)(y), shared()(y, y)]))
    network = keras.Model(x, layers.Dense(3)(y), name="reader")
    labels = np.array([0, 1, 2, 0, 1])
    model = captured(network)
    lowered = portnet.engine(to).lower(model)
    parameters = {name: ParameterPlan() for name, role in model.roles.items() if role.trainable}
    lowered.trainer(TrainPlan(OptimizerSpec("sgd", 0.5, momentum=0.0), parameters)).step(WORDS, labels)
    network.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.train_on_batch(WORDS, labels)
    found = run(model.with_weights(lowered.weights()), WORDS)
    np.testing.assert_allclose(found, np.asarray(network(WORDS)), rtol=1e-3, atol=1e-4)


class Subclassed(keras.Model):
    """A network whose masks go the way that they go on arrays: attention takes them away from what it read."""

    def __init__(self):
        super().__init__()
        self.table, self.heads, self.add = layers.Embedding(12, 5, mask_zero=True), heads(), layers.Add()
        self.norm, self.last = layers.LayerNormalization(), layers.GRU(3)

    def call(self, words):
        x = self.table(words)
        return self.last(self.heads(self.norm(self.add([x, self.heads(x, x)])), x))


def test_a_subclassed_network_and_one_within_another():
    network = Subclassed()
    network(WORDS)
    found, _ = Engine().capture(network, CaptureOptions((WORDS,)))
    assert found.way == "walked over Keras's layers and the calls of Subclassed"
    np.testing.assert_allclose(run(found.model, WORDS), np.asarray(network(WORDS)), rtol=1e-4, atol=1e-5)
    x, words = keras.Input((7, 5)), keras.Input((7,), dtype="int32")
    within = keras.Model(x, layers.LSTM(3, return_sequences=True)(layers.Dense(4)(x)))
    network = keras.Model(words, layers.GRU(2)(within(layers.Embedding(12, 5, mask_zero=True)(words))))
    np.testing.assert_allclose(run(captured(network), WORDS), np.asarray(network(WORDS)), rtol=1e-4, atol=1e-5)


def images(*made, size=(9, 14)):
    return keras.Sequential([keras.Input((*size, 3)), *made], name="images")


@pytest.mark.parametrize("suffix", ["", ".keras", ".h5"])
def test_spectral_normalization_is_what_it_wraps(suffix, tmp_path):
    network = images(
        layers.SpectralNormalization(layers.Conv2D(4, 3, activation="relu")),
        layers.Flatten(),
        layers.SpectralNormalization(layers.Dense(3)),
    )
    x = np.random.default_rng(0).standard_normal((4, 9, 14, 3)).astype(np.float32)
    network(x, training=True)  # which normalizes the kernels
    if suffix:
        network.save(tmp_path / f"net{suffix}")
        model = portnet.capture(tmp_path / f"net{suffix}")
    else:
        model = captured(network)
    np.testing.assert_allclose(run(model, x.transpose(0, 3, 1, 2)), np.asarray(network(x)), rtol=1e-4, atol=1e-5)
    assert model.parameter_count == sum(np.prod(weight.shape) for weight in network.trainable_weights)


@pytest.mark.parametrize("size", [(9, 14), (14, 9), (7, 7), (5, 32)])
@pytest.mark.parametrize("how", ["crop_to_aspect_ratio", "pad_to_aspect_ratio"])
def test_resizing_at_the_same_ratio(how, size):
    network = images(layers.Resizing(6, 5, fill_value=0.5, **{how: True}), size=size)
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    found = run(captured(network), x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), np.asarray(network(x)), rtol=1e-4, atol=1e-5)
