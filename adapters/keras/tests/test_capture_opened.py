"""Keras networks whose layers do not say how they are joined: their code is followed, and everything still trains."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers, ops
from portnet_keras import Engine

import portnet
from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.originals import Request
from portnet.parity.check import check
from portnet.parity.sides import OnnxruntimeSide, SourceSide

IMAGE = (8, 8, 3)


class Block(layers.Layer):
    """A residual block with a learned scale of its own."""

    def __init__(self, filters, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(filters, 3, padding="same", use_bias=False, name="conv")
        self.norm = layers.BatchNormalization(name="norm")
        self.short = layers.Conv2D(filters, 1, name="short")

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=(self.conv.filters,), initializer="ones")
        super().build(shape)

    def call(self, x, training=None):
        return ops.relu(self.gamma * self.norm(self.conv(x), training=training) + self.short(x))


class Residual(keras.Model):
    def __init__(self):
        super().__init__(name="residual")
        self.blocks = [Block(4, name="first"), Block(6, name="second")]
        self.drop, self.head = layers.Dropout(0.2, name="drop"), layers.Dense(3, name="head")

    def call(self, x, training=None):
        x = x / 127.5 - 1.0
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.drop(ops.mean(x, axis=(1, 2)), training=training))


class Attention(layers.Layer):
    """Heads cut out of one dense layer, with the batch in the middle for a while."""

    def __init__(self, width, heads):
        super().__init__(name="attention")
        self.qkv, self.out = layers.Dense(3 * width, name="qkv"), layers.Dense(width, name="out")
        self.width, self.heads = width, heads

    def call(self, x):
        batch, places = ops.shape(x)[0], ops.shape(x)[1]
        qkv = ops.reshape(self.qkv(x), (batch, places, 3, self.heads, self.width // self.heads))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / np.sqrt(4.0), axis=-1)
        mixed = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.out(ops.reshape(mixed, (batch, places, self.width)))


class Transformer(keras.Model):
    def __init__(self):
        super().__init__(name="transformer")
        self.patch = layers.Conv2D(8, 4, strides=4, name="patch")
        self.position = layers.Embedding(4, 8, name="position")
        self.norm, self.attention = layers.LayerNormalization(name="norm"), Attention(8, 2)
        self.head = layers.Dense(3, name="head")
        self.heat = self.add_weight(name="heat", shape=(), initializer="ones")

    def call(self, x):
        x = ops.reshape(self.patch(x), (-1, 4, 8))
        x = x + self.position(ops.arange(4))
        return self.head((x + self.attention(self.norm(x)))[:, 0]) * ops.exp(self.heat)


class Standardized(layers.Conv2D):
    """A convolution whose kernel is normalized as it runs."""

    def call(self, x):
        kernel = self.kernel - ops.mean(self.kernel, axis=(0, 1, 2), keepdims=True)
        kernel = kernel / (ops.std(self.kernel, axis=(0, 1, 2), keepdims=True) + 1e-5)
        return ops.conv(x, kernel, strides=2, padding="same") + self.bias


class Pair(keras.Model):
    """Takes its inputs one by one and returns a dictionary."""

    def __init__(self):
        super().__init__(name="pair")
        self.dense = layers.Dense(3, name="dense")

    def call(self, a, b):
        return {"both": self.dense(ops.concatenate([a, b], axis=-1)), "apart": a - b}


class Windows(keras.Model):
    """Shifted windows of an image, which become part of the batch and come out of it again."""

    def __init__(self):
        super().__init__(name="windows")
        self.dense, self.norm = layers.Dense(3, name="dense"), layers.BatchNormalization(name="norm")

    def call(self, x):
        x = ops.roll(self.norm(x), (-2, -2), (1, 2))
        x = ops.transpose(ops.reshape(x, (-1, 2, 4, 2, 4, 3)), (0, 1, 3, 2, 4, 5))
        x = self.dense(ops.reshape(x, (-1, 16, 3)))
        return ops.reshape(x, (-1, 2, 2, 16, 3))


class Raw(keras.Model):
    """Calls TensorFlow itself."""

    def __init__(self):
        super().__init__(name="raw")
        self.conv = layers.Conv2D(3, 3, name="conv")

    def call(self, x):
        import tensorflow as tf

        return tf.reduce_mean(tf.nn.relu(self.conv(x)), [1, 2])


def functional():
    """Custom layers and a Lambda within a functional network."""
    x = keras.Input(IMAGE, name="photo")
    inner = keras.Sequential([keras.Input(IMAGE), Block(4, name="block"), layers.ReLU(name="relu")], name="inner")
    y = layers.Lambda(lambda t: t * 2, name="twice")(inner(x))
    return keras.Model(x, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D(name="pool")(y)), name="outer")


NETWORKS = {
    "residual": (Residual, [IMAGE]),
    "transformer": (Transformer, [IMAGE]),
    "standardized": (lambda: keras.Sequential([Standardized(4, 3, name="conv"), layers.ReLU()]), [IMAGE]),
    "pair": (Pair, [(4,), (4,)]),
    "windows": (Windows, [IMAGE]),
    "functional": (functional, [IMAGE]),
}


def made(build, shapes):
    """Return a network that has run once, with every array drawn anew, and its examples."""
    network = build()
    examples = tuple(np.zeros((2, *shape), np.float32) for shape in shapes)
    network(*examples)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        draw = rng.standard_normal(weight.shape) / np.sqrt(max(np.prod(weight.shape[:-1]), 1))
        weight.assign(np.abs(draw) + 0.5 if "variance" in weight.path else draw)
    return network, Request(options=CaptureOptions(examples))


def count(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_followed_and_everything_in_it_trains(name):
    network, request = made(*NETWORKS[name])
    found = capture_original(network, request)
    assert "tf2onnx" not in found.way, found.notes
    assert {c.batch for c in found.report.comparisons} == {"random, batch 1", "random, batch 3"}
    assert found.model.parameter_count == count(network)
    assert portnet.engine("keras").lower(found.model).trainable_count == count(network)
    assert portnet.check("keras", found.model).passed


def test_layers_keep_their_names_and_batch_norm_stays():
    network, request = made(Residual, [IMAGE])
    model = capture_original(network, request).model
    ops_found = Counter(node.op_type for node in model.ir.graph)
    assert (ops_found["BatchNormalization"], ops_found["Dropout"], ops_found["Transpose"]) == (2, 1, 0)
    names = model.weights()
    for weight in network.weights:
        if "seed" not in weight.path:
            assert weight.path.removeprefix("residual/") in names
    np.testing.assert_array_equal(names["second/gamma"].ravel(), network.blocks[1].gamma)


def test_the_network_is_as_it_was():
    network, request = made(Residual, [IMAGE])
    calls = [len(layer._inbound_nodes) for layer in network._flatten_layers()]
    call = keras.Layer.__call__
    capture_original(network, request)
    assert [len(layer._inbound_nodes) for layer in network._flatten_layers()] == calls
    assert isinstance(network.blocks[0].gamma, keras.Variable)
    assert keras.Layer.__call__ is call


def test_the_first_layer_that_differs_is_found_inside_the_users_own():
    network, request = made(Residual, [IMAGE])
    captured, source = Engine().capture(network, request.options)
    network.blocks[1].conv.kernel.assign(network.blocks[1].conv.kernel * 1.1)
    report = check(OnnxruntimeSide(captured.model), SourceSide(source, captured.model), batch_sizes=(1,))
    assert report.first_divergence.startswith("second/conv (Conv)")


def test_what_calls_tensorflow_itself_goes_through_tf2onnx_and_says_so():
    network, request = made(Raw, [IMAGE])
    found = capture_original(network, request)
    assert "tf2onnx" in found.way
    assert "cannot be followed: ValueError: A KerasTensor cannot be used" in found.notes[0]


OPERATORS = {
    "einsum": lambda x: ops.einsum("bhwc,bhvc->bhwv", x, x),
    "std": lambda x: ops.std(x, axis=(1, 2)),
    "var keeps": lambda x: ops.var(x, axis=-1, keepdims=True),
    "normalize": lambda x: ops.normalize(x, axis=-1),
    "moveaxis": lambda x: ops.moveaxis(x, -1, 1),
    "flip": lambda x: ops.flip(x, axis=2),
    "roll": lambda x: ops.roll(x, 3, axis=1),
    "tile": lambda x: ops.tile(x, (1, 2, 1, 3)),
    "repeat": lambda x: ops.repeat(x, 3, axis=2),
    "where": lambda x: ops.where(ops.logical_not(x > 0.5), x, 0.0),
    "compared": lambda x: ops.cast(ops.logical_and(x > 0, ops.less_equal(x, 1.0)), "float32"),
    "argmax": lambda x: ops.argmax(x, axis=-1),
    "unstack": lambda x: ops.unstack(x, axis=3)[1],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_computes_as_in_keras(name):
    x = keras.Input((6, 5, 4), name="x")
    y = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    captured, source = Engine().capture(keras.Model(x, OPERATORS[name](y)), CaptureOptions())
    assert captured.way == "walked over Keras's layers"
    report = check(OnnxruntimeSide(captured.model), SourceSide(source, captured.model))
    assert report.passed, str(report)


class Tied(keras.Model):
    """A reader whose classes are compared with its own words, whose lengths are made one before anything is read."""

    def __init__(self):
        super().__init__(name="tied")
        self.table = layers.Embedding(11, 4, name="table")

    def call(self, words):
        found = ops.mean(self.table(words), axis=1)
        return ops.matmul(found, ops.transpose(ops.normalize(ops.convert_to_tensor(self.table.embeddings))))


def test_what_is_computed_before_the_input_is_read_is_told_to_be_constant():
    network = Tied()
    words = np.arange(6, dtype=np.int32).reshape(2, 3)
    network(words)
    captured, source = Engine().capture(network, CaptureOptions((words,)))
    feeds = {captured.model.inputs[0].name: words}
    ours, theirs = OnnxruntimeSide(captured.model).run(feeds), source.run(feeds)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6)
    told = [note for note in captured.notes if "does not train" in note]
    assert len(told) == 1
    assert "(4, 11)" in told[0]
