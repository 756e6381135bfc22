"""The zoo: known architectures, each defined once as an ONNX graph, and their official weights.

    architectures/   one family a file; a file there is all that a new architecture needs
    registry.py      @architecture: name, published facts, and the function that defines it
    build.py         NetworkBuilder: layers onto an ONNX graph
    init.py          random values that untrained networks start from
    expected.py      how large an untrained network's numbers are, for its running variances
    assemble.py      definition + weights + what travels with them → Model

Initializers bear the names of the reference checkpoint (torchvision's state_dict; Gluon's for resnet18_v2), so
official weights load by name. Importing this package imports neither numpy nor onnx.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from portnet.zoo.registry import ZooEntry, entry, names

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["ZooEntry", "info", "load", "names"]


def info(name: str) -> ZooEntry:
    """Return what is known of an architecture: depth, parameters, input size, source, weights at hand.

    >>> info("squeezenet1_1").depth
    18

    Raises:
        UnknownNameError: no architecture has that name; the nearest are offered.
    """
    return entry(name)


def load(
    name: str,
    weights: str | os.PathLike[str] | None = "imagenet",
    *,
    num_classes: int = 1000,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> Model:
    """Return a network: input ``input`` (N, 3, height, width) float32, output ``logits`` (N, num_classes) float32.

    >>> load("squeezenet1_1", weights=None).parameter_count
    1235496

    Args:
        name: one of `names`.
        weights: a name in the catalogue, "imagenet" first of all (from the cache, an installed package, or its
            publisher's address, and checked by digest); the path of a weights file whose names and shapes fit
            (.safetensors, .pth, .npz, .h5, .params); or None for random values.
        num_classes: count of logits; weights must have been trained for as many.
        size: height and width of the input in pixels, or one number for both; None for what the weights were
            trained at.
        seed: of the random values of ``weights=None``.

    Raises:
        UnknownNameError: no architecture or weights of that name; the nearest are offered.
        WeightsError: weights that cannot be had, do not fit, or have the wrong digest.
        InputError: a class count or size that the network cannot take.
    """
    from portnet.zoo.assemble import assemble

    return assemble(entry(name), weights, num_classes, size, seed)
