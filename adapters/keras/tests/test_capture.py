"""Keras networks become Models: computed by Keras itself and by onnxruntime, they give the same numbers."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers
from portnet_keras import Engine

import portnet
import portnet.engines
from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.errors import InputError, ParityError, PortNetError, UnknownNameError, UnsupportedError
from portnet.formats.keras.registry import TABLE
from portnet.originals import Request, open_original
from portnet.parity.check import check
from portnet.parity.sides import OnnxruntimeSide, SourceSide


def moved(network, seed=0):
    """Return a network whose every array has been drawn anew, variances above 0."""
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        draw = rng.standard_normal(weight.shape) / np.sqrt(max(np.prod(weight.shape[:-1]), 1))
        is_variance, is_scale = "variance" in weight.path, weight.path.endswith(("gamma", "scale"))
        weight.assign(np.abs(draw) + 0.5 if is_variance else draw * 0.1 + 1 if is_scale else draw)
    return network


def small(size=16):
    x = keras.Input((size, size, 3), name="photo")
    y = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    y = layers.BatchNormalization(name="stem_bn")(y)
    y = layers.ReLU(6.0, name="stem_relu")(y)
    z = layers.DepthwiseConv2D(3, padding="same", name="depth")(y)
    y = layers.Concatenate(name="join")([y, layers.LayerNormalization(name="norm")(z)])
    y = layers.MaxPooling2D(3, strides=2, padding="same", name="pool")(y)
    y = layers.Flatten(name="flat")(y)
    y = layers.Dropout(0.3, name="drop")(y)
    return moved(keras.Model(x, layers.Dense(5, activation="softmax", name="classes")(y), name="small"))


def ops(model):
    return Counter(node.op_type for node in model.ir.graph)


def trainable(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


@pytest.mark.parametrize("size", [15, 16])
def test_a_functional_network_keeps_what_trains(size):
    network = small(size)
    found = capture_original(network)
    assert found.way == "walked over Keras's layers"
    assert found.model.parameter_count == trainable(network)
    counts = ops(found.model)
    assert (counts["BatchNormalization"], counts["Dropout"]) == (1, 1)
    assert found.model.inputs[0].shape == ("N", 3, size, size) or found.model.inputs[0].shape[1:] == (3, size, size)
    assert "stem/kernel" in found.model.weights()


def test_an_image_network_has_no_transposes_inside():
    network = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    assert ops(capture_original(moved(network)).model)["Transpose"] == 0


def test_a_network_that_was_never_called_keeps_its_batch_free():
    network = keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    found = capture_original(network, Request(input_shape=(1, 8, 8, 3)))
    assert [c.batch for c in found.report.comparisons] == ["random, batch 1", "random, batch 3"]


def test_channels_stay_last_where_that_is_asked_for():
    model = portnet.capture(small(), keep_layout=True)
    assert model.inputs[0].shape[1:] == (16, 16, 3)


APPLICATIONS = ("MobileNetV2", "EfficientNetB0", "DenseNet121", "ConvNeXtTiny")


@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_applications(name):
    native = moved(getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=7))
    captured, source = Engine().capture(native, CaptureOptions())
    report = check(OnnxruntimeSide(captured.model), SourceSide(source, captured.model), batch_sizes=(2,))
    assert report.passed, str(report)
    assert captured.model.parameter_count == trainable(native)


def test_a_word_brings_its_preprocessing():
    original = open_original("keras:MobileNetV2?size=64&classes=4")
    assert original.captured.model.preprocessing.scale == 127.5
    assert original.captured.notes == (
        "the weights are random; keras:MobileNetV2?weights=imagenet takes the published ones",
    )
    with pytest.raises(UnknownNameError, match="Did you mean 'MobileNetV2'"):
        open_original("keras:MobileNetV")
    with pytest.raises(InputError, match="size got 'x'"):
        open_original("keras:MobileNetV2?size=x")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_are_read_without_keras_and_proved_with_it(suffix, tmp_path):
    network = small()
    network.save(tmp_path / f"net{suffix}")
    found = capture_original(str(tmp_path / f"net{suffix}"))
    assert found.report.passed
    assert found.model.parameter_count == trainable(network)


def test_an_architecture_takes_the_weights_beside_it(tmp_path):
    network = small()
    (tmp_path / "net.json").write_text(network.to_json())
    assert capture_original(str(tmp_path / "net.json")).unproved
    network.save_weights(tmp_path / "net.weights.h5")
    found = capture_original(str(tmp_path / "net.json"))
    assert found.report.passed
    np.testing.assert_array_equal(found.model.weights()["stem_bn/gamma"], network.get_layer("stem_bn").gamma)


class Subclassed(keras.Model):
    """A network whose layers do not say how they are joined."""

    def __init__(self):
        super().__init__(name="mine")
        self.conv, self.dense = layers.Conv2D(4, 3, padding="same"), layers.Dense(3)

    def call(self, x):
        return self.dense(keras.ops.mean(keras.ops.relu(self.conv(x)), axis=(1, 2)))


def test_a_subclassed_network_is_followed():
    network = Subclassed()
    network(np.zeros((1, 8, 8, 3), np.float32))
    found = capture_original(moved(network), Request(input_shape=(2, 8, 8, 3)))
    assert found.way == "walked over Keras's layers and the calls of Subclassed"
    assert found.model.parameter_count == 3 * 3 * 3 * 4 + 4 + 4 * 3 + 3
    with pytest.raises(InputError, match="example inputs"):
        open_original(Subclassed())


def test_a_saved_model_folder_and_a_tflite_file(tmp_path):
    network = small()
    network.export(tmp_path / "saved", verbose=False)
    assert capture_original(str(tmp_path / "saved")).report.passed
    import tensorflow as tf

    (tmp_path / "net.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    assert capture_original(str(tmp_path / "net.tflite")).report.passed
    (tmp_path / "cut.tflite").write_bytes((tmp_path / "net.tflite").read_bytes()[:3000])
    with pytest.raises(PortNetError):
        open_original(str(tmp_path / "cut.tflite"))


def test_the_first_layer_that_differs_is_named():
    network = small()
    captured, source = Engine().capture(network, CaptureOptions())
    network.get_layer("depth").bias.assign_add(np.arange(8, dtype=np.float32))
    report = check(OnnxruntimeSide(captured.model), SourceSide(source, captured.model), batch_sizes=(1,))
    assert not report.passed
    assert report.first_divergence.startswith("depth (Conv)")
    with pytest.raises(ParityError):
        report.raise_if_failed()


def test_code_in_a_file_is_never_run(tmp_path):
    x = keras.Input((4,))
    network = keras.Model(x, layers.Lambda(lambda t: t * 2, name="twice")(x))
    network.save(tmp_path / "net.keras")
    with pytest.raises(UnsupportedError, match=r"Lambda.*\(twice\)"):
        open_original(str(tmp_path / "net.keras"))


@pytest.mark.parametrize("engine", ["torch", "gluon"])
def test_what_was_keras_runs_and_trains_elsewhere(engine):
    if engine not in portnet.engines.installed():
        pytest.skip(f"{engine} is not installed")
    network = small()
    model = portnet.capture(network)
    lowered = portnet.engine(engine).lower(model)
    assert lowered.trainable_count == trainable(network)
    x = np.random.default_rng(2).standard_normal((2, 3, 16, 16)).astype(np.float32)
    expected = network(x.transpose(0, 2, 3, 1), training=False)
    np.testing.assert_allclose(lowered.predict(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mistake", [AttributeError, AssertionError, NameError])
def test_a_mistake_of_ours_is_not_told_as_a_broken_file(mistake, monkeypatch, tmp_path):
    def builder(walk, node):
        raise mistake("ours")

    network = small()
    network.save(tmp_path / "net.keras")
    monkeypatch.setitem(TABLE, "DepthwiseConv2D", builder)
    with pytest.raises(mistake, match="ours"):
        open_original(str(tmp_path / "net.keras"))
    with pytest.raises(mistake, match="ours"):
        Engine().capture(network, CaptureOptions())
