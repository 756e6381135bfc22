"""An architecture as a graph, with arrays from wherever the caller has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from portnet.graph.metadata import Metadata
from portnet.graph.model import Model
from portnet.weights.init import Init
from portnet.zoo.build import NetworkBuilder, ParameterSource
from portnet.zoo.registry import ZooEntry

__all__ = ["Defined", "define", "drawn", "placeholder", "taken"]


@dataclass(frozen=True)
class Defined:
    """An architecture written down.

    Attributes:
        model: the network.
        parameters: shape of every weight, bias and statistic by name, in graph order.
        fixed: names of those whose value is part of the architecture.
    """

    model: Model
    parameters: Mapping[str, tuple[int, ...]]
    fixed: frozenset[str]


def define(entry: ZooEntry, classes: int, size: tuple[int, int], source: ParameterSource) -> Defined:
    """Return an architecture for images of a size."""
    net = NetworkBuilder(entry.name, size, source)
    logits = entry.define(net, net.image, classes)
    return Defined(Model(net.finish(logits), Metadata()), net.parameters, frozenset(net.fixed))


def drawn(seed: int) -> ParameterSource:
    """Return a source of random values."""
    return lambda name, shape, init: init.draw(name, shape, seed)


def placeholder(name: str, shape: tuple[int, ...], init: Init) -> np.ndarray:
    """Return the value of a constant parameter, and for the others zeros that take no memory."""
    if init.distribution == "constant":
        return init.draw(name, shape, 0)
    return np.broadcast_to(np.float32(0), shape)


def taken(arrays: Mapping[str, np.ndarray], otherwise: Callable[..., np.ndarray]) -> ParameterSource:
    """Return a source of given arrays, and of other values for what is not among them."""

    def source(name: str, shape: tuple[int, ...], init: Init) -> np.ndarray:
        return arrays[name] if name in arrays else otherwise(name, shape, init)

    return source
