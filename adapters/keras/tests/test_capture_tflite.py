"""TensorFlow Lite's files as its converter writes them: operations that tf2onnx leaves, and whole numbers inside."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras import layers
from portnet_keras.leftovers import without_leftovers

from portnet.capturing import capture_original
from portnet.errors import UnsupportedError


def written(network, path, *, integers=False):
    """Write a network by TensorFlow's converter; with whole numbers inside where it is asked to."""
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if integers:
        shape = (1, *network.inputs[0].shape[1:])
        draws = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(8)]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([draw] for draw in draws)
    path.write_bytes(converter.convert())
    return path


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_is_gelu(tmp_path, approximate):
    x = keras.Input((6, 4))
    gelu = layers.Activation(lambda v: keras.activations.gelu(v, approximate=approximate))
    path = written(keras.Model(x, layers.Dense(3)(gelu(layers.Dense(8)(x)))), tmp_path / "net.tflite")
    assert capture_original(path).report.passed


def test_integer_kernels_may_be_a_step_off(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((16, 16, 3))
    y = layers.Conv2D(8, 3, padding="same", activation="swish")(x)
    y = layers.Add()([y, layers.Conv2D(8, 3, padding="same")(y)])
    y = layers.AveragePooling2D(2)(layers.Conv2DTranspose(4, 3, strides=2, padding="same")(y))
    network = keras.Model(x, layers.Conv2D(2, 1, activation="sigmoid")(y))
    assert capture_original(written(network, tmp_path / "net.tflite", integers=True)).report.passed


def test_what_stays_without_a_translation_is_named():
    node = onnx.helper.make_node("TFL_HASHTABLE_FIND", ["x"], ["y"], name="words;x")
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(UnsupportedError, match=r"HASHTABLE_FIND \(words\)"):
        without_leftovers(onnx.helper.make_model(graph).SerializeToString(), "net.tflite")
