"""What one would write without PortNet: each framework's own zoo network in a plain training loop."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

__all__ = ["OFFERS", "Offer", "Reference", "build"]


class Reference(Protocol):
    """A framework's own network and loop."""

    def layout(self, images: np.ndarray) -> np.ndarray:
        """Return images, (N, 3, H, W), as a program for this framework would hold them. Not timed."""

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Take one step of SGD with momentum; return the loss."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return logits."""


@dataclass(frozen=True)
class Offer:
    """A kind of reference.

    Attributes:
        name: network and loop, as the tables name them.
        networks: the zoo's name of each network that there is -> the framework's name.
        notes: where the framework's network is not the same as the zoo's.
    """

    name: str
    networks: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)


_TORCHVISION = {name: name for name in ("squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50")}
_KERAS = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet50"}
_GLUON = {
    "squeezenet1_0": "squeezenet1_0",
    "squeezenet1_1": "squeezenet1_1",
    "mobilenet_v2": "mobilenet_v2_1_0",
    "resnet18": "resnet18_v1",
    "resnet50": "resnet50_v1",
    "resnet18_v2": "resnet18_v2",
}
_STRIDES = {"resnet50": "the framework's ResNet-50 strides the 1×1 convolutions, which takes 6% fewer multiplications"}
# by torch's profiler, one thread: the same oneDNN and BLAS kernels serve both layouts at nearly the same speed
_KERNELS = dict.fromkeys(("resnet18", "resnet50"), "86–90% of a step are convolution kernels, as fast in either layout")

OFFERS: dict[str, tuple[Offer, ...]] = {
    "torch": (Offer("torchvision, eager", _TORCHVISION, _KERNELS),),
    "keras": (
        Offer("keras.applications, tf.function", _KERAS, _STRIDES),
        Offer("keras.applications, train_on_batch", _KERAS, _STRIDES),
    ),
    "gluon": (Offer("gluon.model_zoo, hybridized", _GLUON, _STRIDES),),
}


def build(engine: str, offer: Offer, network: str, size: int) -> Reference:
    """Return an offer's network, made for images of ``size`` pixels; imports the framework."""
    kinds = importlib.import_module(f"bench.references.{engine}").KINDS
    reference: Reference = kinds[offer.name](offer.networks[network], size)
    return reference
