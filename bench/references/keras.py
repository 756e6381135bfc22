"""Networks of keras.applications in two plain loops: one tf.function, and Keras's own ``train_on_batch``."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench.batch import LR, MOMENTUM

__all__ = ["KINDS"]


class _Application:
    def __init__(self, network: str, size: int) -> None:
        build = getattr(keras.applications, network)
        self._network = build(weights=None, input_shape=(size, size, 3), classifier_activation=None)
        self._optimizer = keras.optimizers.SGD(LR, momentum=MOMENTUM)
        self._forward = tf.function(lambda x: self._network(x, training=False), reduce_retracing=True)
        self._is_calibrated = False

    def layout(self, images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def predict(self, x: np.ndarray) -> np.ndarray:
        self._calibrate(x)
        return self._forward(tf.convert_to_tensor(x)).numpy()

    def _calibrate(self, x: np.ndarray) -> None:
        if self._is_calibrated:
            return
        norms = [layer for layer in self._network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        self._network(x, training=True)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self._is_calibrated = True


class _Function(_Application):
    def __init__(self, network: str, size: int) -> None:
        super().__init__(network, size)
        self._optimizer.build(self._network.trainable_variables)
        self._train = tf.function(self._compute)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self._train(tf.convert_to_tensor(x), tf.convert_to_tensor(y)))

    def _compute(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = self._network(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        variables = self._network.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return loss


class _TrainOnBatch(_Application):
    def __init__(self, network: str, size: int) -> None:
        super().__init__(network, size)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._network.compile(optimizer=self._optimizer, loss=loss)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self._network.train_on_batch(x, y))

    def predict(self, x: np.ndarray) -> np.ndarray:
        self._calibrate(x)
        return self._network.predict_on_batch(x)


KINDS = {"keras.applications, tf.function": _Function, "keras.applications, train_on_batch": _TrainOnBatch}
