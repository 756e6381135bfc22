"""The zoo: known architectures, each defined once as an ONNX graph, and their official weights.

    architectures/   one family a file; a file there is all that a new architecture needs
    registry.py      @architecture: name, published facts, and the function that defines it
    build.py         NetworkBuilder: layers onto an ONNX graph
    init.py          random values that untrained networks start from
    expected.py      how large an untrained network's numbers are, for its running variances
    define.py        an architecture as a graph, with arrays from anywhere
    given.py         a weights file of any kind, and the network that it tells
    fitting.py       such a file onto an architecture: by graph, by name, or by shape and order
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
    from portnet.weights.report import MatchReport

__all__ = ["ZooEntry", "info", "load", "load_with_report", "names"]


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
    num_classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    backbone_only: bool = False,
) -> Model:
    """Return a network: input ``input`` (N, 3, height, width) float32, output ``logits`` (N, num_classes) float32.

    >>> load("squeezenet1_1", weights=None).parameter_count
    1235496

    Args:
        name: one of `names`.
        weights: a name in the catalogue, "imagenet" first of all (from the cache, an installed package, or its
            publisher's address, and checked by digest); a file; a word such as ``keras:ResNet50``; or None for random
            values. What tells a network, or lies beside one (.onnx, .keras, .h5, .pt2, .caffemodel and .prototxt,
            .weights and .cfg, .params and -symbol.json), must compute as this one does, and its arrays go where they
            stand in it. Those of other files (.pth, .safetensors, .npz, .h5, .params, .caffemodel) go by name, else by
            shape and order. `load_with_report` says what went where, and so does the model's provenance.
        num_classes: count of logits; None for what the weights know, or 1,000.
        size: height and width of the input in pixels, or one number for both; None for what the weights were
            trained at.
        seed: of the values that are drawn.
        backbone_only: whether the head is drawn, whatever head the weights have, if they have one.

    Raises:
        UnknownNameError: no architecture or weights of that name; the nearest are offered.
        WeightsError: weights that cannot be had, do not fit, or have the wrong digest; the first array that does not
            fit is named, and so is one that may stand in two places.
        InputError: a class count or size that the network cannot take, or a file that is broken or hostile.
    """
    from portnet.zoo.assemble import assemble

    return assemble(entry(name), weights, num_classes, size, seed, backbone_only).model


def load_with_report(
    name: str,
    weights: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    backbone_only: bool = False,
) -> tuple[Model, MatchReport]:
    """Return what `load` returns, and which array of the file went onto which initializer by which rule."""
    from portnet.zoo.assemble import assemble

    built = assemble(entry(name), weights, num_classes, size, seed, backbone_only)
    assert built.report is not None
    return built.model, built.report
