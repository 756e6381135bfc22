"""Networks of Gluon's model zoo, hybridized with static shapes, and Gluon's own Trainer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.batch import LR, MOMENTUM

np.bool = bool  # type: ignore[attr-defined]  # MXNet 1.9.1 asks for a name that NumPy has dropped

import mxnet as mx  # noqa: E402
from mxnet.gluon.model_zoo import vision  # noqa: E402

__all__ = ["KINDS", "calibrate", "mx", "vision"]


class _ModelZoo:
    def __init__(self, network: str, size: int) -> None:
        self._network = getattr(vision, network)()
        self._network.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
        self._network(mx.nd.zeros((1, 3, size, size)))
        self._hybridize()
        self._loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self._loss.hybridize(static_alloc=True, static_shape=True)
        options = {"learning_rate": LR, "momentum": MOMENTUM}
        self._trainer = mx.gluon.Trainer(self._network.collect_params(), "sgd", options)
        self._is_calibrated = False

    def layout(self, images: np.ndarray) -> np.ndarray:
        return images

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        with mx.autograd.record():
            loss = self._loss(self._network(mx.nd.array(x)), mx.nd.array(y))
        loss.backward()
        self._trainer.step(len(y))
        mx.nd.waitall()  # MXNet would do the rest of the step while the other side is timed
        return float(loss.mean().asscalar())

    def predict(self, x: np.ndarray) -> np.ndarray:
        self._calibrate(x)
        return self._network(mx.nd.array(x)).asnumpy()

    def _hybridize(self) -> None:
        self._network.hybridize(static_alloc=True, static_shape=True)

    def _calibrate(self, x: np.ndarray) -> None:
        if not self._is_calibrated:
            calibrate(self._network, mx.nd.array(x))
            self._is_calibrated = True


def calibrate(network: Any, x: Any) -> None:
    """Set the running statistics of a block to those of a batch, and hybridize it."""
    norms = _batch_norms(network)
    momenta = [norm._kwargs["momentum"] for norm in norms]
    _set_momenta(norms, [0.0] * len(norms))
    network.hybridize(static_alloc=True, static_shape=True)
    with mx.autograd.record():
        network(x).backward()
    mx.nd.waitall()
    _set_momenta(norms, momenta)
    network.hybridize(static_alloc=True, static_shape=True)


def _batch_norms(block: Any) -> list[Any]:
    found = [block] if isinstance(block, mx.gluon.nn.BatchNorm) else []
    return found + [norm for child in block._children.values() for norm in _batch_norms(child)]


def _set_momenta(norms: list[Any], momenta: list[float]) -> None:
    for norm, momentum in zip(norms, momenta, strict=True):
        norm._kwargs["momentum"] = momentum


KINDS = {"gluon.model_zoo, hybridized": _ModelZoo}
