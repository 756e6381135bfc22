"""Masks of padding: recurrent layers leave the same steps out as in Keras, wherever they stand, and train."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers
from portnet_keras import Engine
from portnet_keras.capture import translation_of

import portnet
from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.errors import UnsupportedError

WORDS = np.array(
    [
        [3, 5, 2, 7, 0, 0, 0],  # padded behind
        [0, 0, 4, 1, 6, 2, 8],  # padded in front, as Keras's own pad_sequences does
        [0, 2, 0, 5, 0, 0, 3],  # holes
        [0, 0, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6, 7],
    ],
    np.int32,
)

CASES = {
    "LSTM": [lambda: layers.LSTM(4)],
    "GRU": [lambda: layers.GRU(4)],
    "SimpleRNN": [lambda: layers.SimpleRNN(4)],
    "backwards": [lambda: layers.LSTM(4, go_backwards=True)],
    "sequences": [lambda: layers.LSTM(4, return_sequences=True)],
    "zeros where masked": [lambda: layers.GRU(4, return_sequences=True, zero_output_for_mask=True)],
    "both ways": [lambda: layers.Bidirectional(layers.LSTM(4))],
    "both ways, sequences": [lambda: layers.Bidirectional(layers.GRU(4, return_sequences=True))],
    "two layers": [
        lambda: layers.Dropout(0.3),
        lambda: layers.Dense(6, activation="tanh"),
        lambda: layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="sum"),
        lambda: layers.LayerNormalization(),
        lambda: layers.GRU(3),
        lambda: layers.Dense(2, activation="softmax"),
    ],
    "both ways that differ": [
        lambda: layers.Bidirectional(
            layers.LSTM(4, return_sequences=True),
            backward_layer=layers.GRU(4, return_sequences=True, go_backwards=True),
        ),
        lambda: layers.Bidirectional(layers.SimpleRNN(3), backward_layer=layers.LSTM(3, go_backwards=True)),
    ],
    "both ways that differ, averaged": [
        lambda: layers.Bidirectional(layers.LSTM(3), "ave", backward_layer=layers.GRU(3, go_backwards=True))
    ],
    "stacked cells": [lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)])],
    "stacked cells, sequences": [
        lambda: layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(4)], return_sequences=True),
        lambda: layers.LSTM(2),
    ],
    "mean": [lambda: layers.LSTM(4, return_sequences=True), lambda: layers.GlobalAveragePooling1D()],
    "dropped": [lambda: layers.Conv1D(4, 3), lambda: layers.LSTM(3)],
    "dropped in a maximum": [lambda: layers.GlobalMaxPooling1D()],
}


def reader(name, steps=7):
    keras.utils.set_random_seed(3)
    made = [keras.Input((steps,), dtype="int32", name="words"), layers.Embedding(12, 5, mask_zero=True, name="table")]
    return keras.Sequential([*made, *(make() for make in CASES[name])], name="reader")


def captured(network):
    found, _ = Engine().capture(network, CaptureOptions())
    assert "tf2onnx" not in found.way
    return found.model


def run(model, words):
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: words})[0]


@pytest.mark.parametrize("steps", [7, None], ids=["fixed", "free"])
@pytest.mark.parametrize("name", CASES)
def test_masked_steps_are_left_out(name, steps):
    network = reader(name, steps)
    model = captured(network)
    words = WORDS if name != "mean" else WORDS[[0, 1, 2, 4]]  # the mean of nothing is NaN, there and here
    np.testing.assert_allclose(run(model, words), np.asarray(network(words)), rtol=1e-4, atol=1e-5)
    assert model.parameter_count == sum(np.prod(w.shape) for w in network.trainable_weights)


@pytest.mark.parametrize("name", ["LSTM", "both ways, sequences", "two layers"])
def test_files_of_keras_leave_masks_unsaid_and_are_read_alike(name, tmp_path):
    network = reader(name)
    for file in ("net.keras", "net.h5"):
        network.save(tmp_path / file)
        model = portnet.capture(tmp_path / file)
        np.testing.assert_allclose(run(model, WORDS), np.asarray(network(WORDS)), rtol=1e-4, atol=1e-5)


def test_masking_by_a_number():
    x = keras.Input((6, 3), name="x")
    network = keras.Model(x, layers.GRU(4)(layers.Masking(mask_value=-1.0)(x)))
    data = np.random.default_rng(0).standard_normal((3, 6, 3)).astype(np.float32)
    data[0, :2], data[1, 4:], data[2, 1::2], data[2, 0, 0] = -1, -1, -1, -1
    model = captured(network)
    np.testing.assert_allclose(run(model, data), np.asarray(network(data)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", ["torch", "keras", "gluon"])
@pytest.mark.parametrize("name", ["two layers", "both ways, sequences"])
def test_every_engine_runs_it(name, to):
    model = captured(reader(name))
    lowered = portnet.engine(to).lower(model)
    (result,) = lowered.run({model.inputs[0].name: WORDS}).values()
    np.testing.assert_allclose(result, run(model, WORDS), rtol=1e-4, atol=1e-5)


def test_a_layer_that_reads_masks_and_has_no_translation_for_them_is_refused():
    x = keras.Input((7, 4), dtype="int32")
    words = layers.Embedding(12, 5, mask_zero=True)(x)
    with pytest.raises(UnsupportedError, match="TimeDistributed with a mask"):
        translation_of(keras.Model(x, layers.TimeDistributed(layers.LSTM(3))(words)), CaptureOptions())


@pytest.mark.parametrize("layer", [layers.GroupNormalization(1), layers.EinsumDense("abc,cd->abd", (None, 4))])
def test_layers_that_do_not_read_a_mask_take_one(layer):
    x = keras.Input((7,), dtype="int32")
    words = layers.Embedding(12, 4, mask_zero=True)(x)
    assert capture_original(keras.Model(x, layers.LSTM(3)(layer(words)))).report.passed
