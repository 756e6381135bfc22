"""SavedModel folders: every variable comes with its name, BatchNormalization trains, and images need no transposes."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import portnet
from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.capturing import capture_original
from portnet.errors import UnsupportedError


def stepped(engine, model, x, y):
    """Return a model's arrays after one step of plain gradient descent on an engine."""
    parameters = {name: ParameterPlan() for name, role in model.roles.items() if role.trainable}
    lowered = portnet.engine(engine).lower(model)
    trainer = lowered.trainer(TrainPlan(OptimizerSpec("sgd", 0.1, momentum=0.0), parameters))
    trainer.step(x, y)
    return lowered.weights()


def exported(network, path):
    network.export(path, verbose=False)
    return capture_original(str(path))


def drawn(network, seed=0):
    """Return a network whose every array has been drawn anew, variances above 0."""
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        draw = rng.standard_normal(weight.shape) / np.sqrt(max(np.prod(weight.shape[:-1]), 1))
        is_variance, is_scale = "variance" in weight.path, weight.path.endswith("gamma")
        weight.assign(np.abs(draw) + 0.5 if is_variance else draw * 0.1 + 1 if is_scale else draw)
    return network


def ops(model):
    return Counter(node.op_type for node in model.ir.graph)


def trainable(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


def images(size=16):
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(4, 3, padding="same", strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3),
            layers.BatchNormalization(scale=False, axis=3),
            layers.Activation("swish"),
            layers.Conv2D(4, 1),
            layers.BatchNormalization(center=False, epsilon=1e-5),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.Dense(3),
        ],
        name="images",
    )


def series():
    return keras.Sequential(
        [
            keras.Input((12, 3)),
            layers.Conv1D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3),
        ],
        name="series",
    )


def flattened():
    made = [keras.Input((8, 8, 2)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten()]
    return keras.Sequential([*made, layers.Dense(3)], name="flattened")


def volumes():
    made = [keras.Input((6, 6, 6, 2)), layers.Conv3D(3, 3), layers.BatchNormalization()]
    return keras.Sequential([*made, layers.GlobalAveragePooling3D(), layers.Dense(3)], name="volumes")


def rows():
    made = [keras.Input((6, 5, 2)), layers.Conv2D(3, 2), layers.BatchNormalization(axis=1)]
    return keras.Sequential([*made, layers.BatchNormalization(axis=2), layers.GlobalAveragePooling2D()], name="rows")


NETWORKS = {
    "rows": (rows, 2),
    "images": (images, 4),
    "series": (series, 1),
    "flattened": (flattened, 1),
    "volumes": (volumes, 1),
}


@pytest.mark.parametrize("save", [lambda n, p: n.export(p, verbose=False), tf.saved_model.save], ids=["keras", "tf"])
@pytest.mark.parametrize("name", NETWORKS)
def test_batch_normalization_stays_and_trains(name, save, tmp_path):
    build, count = NETWORKS[name]
    network = drawn(build())
    save(network, str(tmp_path / "saved"))
    found = capture_original(str(tmp_path / "saved"))
    assert [c.batch for c in found.report.comparisons] == ["random, batch 1", "random, batch 3"]
    assert ops(found.model)["BatchNormalization"] == count
    assert found.model.parameter_count == trainable(network)
    arrays = found.model.weights()
    for weight in network.weights:
        held = arrays[weight.path]
        np.testing.assert_array_equal(np.sort(held, axis=None), np.sort(np.asarray(weight), axis=None), weight.path)
    norms = [node for node in found.model.ir.graph if node.op_type == "BatchNormalization"]
    assert all(node.inputs[3].name.endswith("moving_mean") for node in norms)
    assert all(node.attributes["momentum"].value == pytest.approx(0.99) for node in norms)
    assert any("momentum" in note for note in found.notes)


@pytest.mark.parametrize("name", ["images", "flattened"])
def test_an_image_network_has_no_transposes(name, tmp_path):
    found = exported(drawn(NETWORKS[name][0]()), tmp_path / "saved")
    assert ops(found.model)["Transpose"] == 0


def test_arrays_that_are_equal_stay_apart(tmp_path):
    network = images()  # as Keras begins: every γ is 1, every β 0
    found = exported(network, tmp_path / "saved")
    assert found.model.parameter_count == trainable(network)
    assert {weight.path for weight in network.weights} <= set(found.model.weights())


def test_frozen_layers_train_again_and_what_never_trains_does_not(tmp_path):
    x = keras.Input((6,))
    normal = layers.Normalization(mean=None, name="normal")
    normal.adapt(np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32) * 3)
    y = layers.Dense(4, name="frozen")(normal(x))
    network = keras.Model(x, layers.Dense(2, name="head")(y))
    network.get_layer("frozen").trainable = False
    found = exported(network, tmp_path / "saved")
    assert found.model.parameter_count == 6 * 4 + 4 + 4 * 2 + 2


def test_a_variable_that_is_computed_with_trains(tmp_path):
    class Own(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = tf.Variable(np.random.default_rng(0).random((4, 3), np.float32), name="table")
            self.scale = tf.Variable(np.float32([0.1, 0.2, 0.3]), name="scale")

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.matmul(tf.matmul(x, self.table) * tf.exp(self.scale), self.table, transpose_b=True)}

    module = Own()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    found = capture_original(str(tmp_path / "saved"))
    assert found.model.parameter_count == 15
    assert set(found.model.weights()) >= {"table", "scale"}


@pytest.mark.parametrize("engine", ["torch", "keras"])
def test_a_step_of_training(engine, tmp_path):
    """The same step that Keras makes of the network it was, BatchNormalization's statistics among the results."""
    network = drawn(images())
    found = exported(network, tmp_path / "saved")
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 3, 16, 16)).astype(np.float32), np.array([0, 1, 2, 0, 1, 2])
    network.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = {weight.path: np.array(weight) for weight in network.weights}
    network.train_on_batch(x.transpose(0, 2, 3, 1), y)
    after = stepped(engine, found.model, x, y)
    for weight in network.weights:
        if weight.ndim == 1:  # kernels are laid out anew, and are right if what they gave is
            np.testing.assert_allclose(after[weight.path], np.array(weight), rtol=1e-3, atol=1e-4, err_msg=weight.path)
            assert "norm" not in weight.path or not np.array_equal(after[weight.path], before[weight.path])


def test_a_network_of_keras_applications(tmp_path):
    native = drawn(keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=7, alpha=0.35))
    found = exported(native, tmp_path / "saved")
    assert found.model.parameter_count == trainable(native)
    assert (ops(found.model)["BatchNormalization"], ops(found.model)["Transpose"]) == (52, 0)


def test_what_tensorflow_compiles_apart_and_erfc(tmp_path):
    x = keras.Input((16, 16, 4))
    y = layers.Conv2D(4, 3, groups=2, dilation_rate=2, padding="same")(x)  # a function of its own, for XLA
    y = layers.Activation("gelu")(layers.BatchNormalization()(y))
    network = drawn(keras.Model(x, layers.Dense(3)(layers.GlobalMaxPooling2D()(y))))
    found = exported(network, tmp_path / "saved")
    assert found.model.parameter_count == trainable(network)
    assert (ops(found.model)["BatchNormalization"], ops(found.model)["Transpose"]) == (1, 0)


def test_an_op_without_a_translation_is_named(tmp_path):
    class Own(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.math.lbeta(tf.abs(x)), "z": tf.math.polygamma(x, x)}

    module = Own()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    with pytest.raises(UnsupportedError, match="Lgamma, Polygamma"):
        capture_original(str(tmp_path / "saved"))


def test_a_recurrent_network(tmp_path):
    made = [keras.Input((5, 3)), layers.LSTM(4, return_sequences=True), layers.GRU(3), layers.Dense(2)]
    network = drawn(keras.Sequential(made))
    found = exported(network, tmp_path / "saved")
    assert found.report.passed
    assert found.model.parameter_count == trainable(network)
