"""`Backbone`: a network without its head, from the zoo, from any .onnx file, or from a `Model`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from portnet import zoo
from portnet.errors import InputError, ModelError
from portnet.graph.cut import cut
from portnet.graph.model import Model
from portnet.sources import find_model, is_zoo_name
from portnet.weights.catalogue import CATALOGUE

__all__ = ["Backbone"]


@dataclass(frozen=True)
class Backbone:
    """A network up to its feature tensor, which is its only output.

    Make one with `of`:

    >>> Backbone.of("squeezenet1_1", weights=None).channels
    512

    Attributes:
        model: the graph, cut at the feature tensor.
        feature: name of that tensor.
        natural_head: kind of head that the architecture has by nature.
    """

    model: Model
    feature: str
    natural_head: Literal["linear", "conv"] = "linear"

    @classmethod
    def of(
        cls,
        source: str | os.PathLike[str] | Model,
        *,
        weights: str | os.PathLike[str] | None = "imagenet",
        size: int | None = None,
        feature: str | None = None,
    ) -> Backbone:
        """Return the backbone of a network.

        Args:
            source: name in the zoo, path of an .onnx file, or a `Model`.
            weights: "imagenet", a weights file or None; of zoo networks. A file's head may be another or missing.
            size: height and width of the input in pixels; None for the network's own. A network that is not the
                zoo's takes another size only where its height and width are free.
            feature: tensor to cut at; None for the one that the network names, or else the one before the classifier.

        Raises:
            UnknownNameError: no such network or tensor; the nearest are offered.
            InputError: a size that the network cannot take.
            ModelError: no feature tensor can be found, or its channels are not known.
        """
        if is_zoo_name(source):
            model = zoo.load(str(source), weights, size=size, backbone_only=_is_file(str(source), weights))
        else:
            model = source if isinstance(source, Model) else find_model(source).canonical()
            model = model if size is None else _with_size(model, size)
        info = model.backbone
        name = feature or (info.feature if info is not None else _find_feature(model))
        part = cut(model, outputs=[name])
        shape = part.outputs[0].shape
        if shape is None or len(shape) not in (2, 4) or not isinstance(shape[1], int):
            raise ModelError(
                f"backbone: feature tensor {name!r} has shape {shape}, expected (N, C, H, W) or (N, C) with a known C. "
                "Name another one with Backbone.of(..., feature=...)."
            )
        return cls(part, name, info.head if info is not None and len(shape) == 4 else "linear")

    @property
    def channels(self) -> int:
        """Channels of the feature tensor."""
        shape = self.model.outputs[0].shape
        assert shape is not None
        assert isinstance(shape[1], int)
        return shape[1]

    @property
    def feature_rank(self) -> int:
        """4 for a feature map (N, C, H, W), 2 for a vector (N, C)."""
        shape = self.model.outputs[0].shape
        assert shape is not None
        return len(shape)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages in order, e.g. ("conv1", "fire2", ...); empty when the network names none."""
        return tuple(dict.fromkeys(layer.stage for layer in self.model.layers if layer.stage))


def _is_file(network: str, weights: str | os.PathLike[str] | None) -> bool:
    """Whether weights are a file's, whose head may be another or missing."""
    return weights is not None and not any(known.network == network and known.name == weights for known in CATALOGUE)


def _with_size(model: Model, size: int) -> Model:
    """Return ``model`` for images of that size, if it can take them."""
    image = next(iter(model.inputs), None)
    shape = image.shape if image is not None else None
    if shape is None or len(shape) != 4 or any(isinstance(n, int) and n != size for n in shape[2:]):
        raise InputError(
            f"size: got {size}, but the input of {model.name or 'the network'} is {image}. Leave size out."
        )
    resized = model.copy()
    if resized.preprocessing is not None:
        resized.preprocessing = resized.preprocessing.resized((size, size))
    return resized


def _find_feature(model: Model) -> str:
    from portnet.graph.feature import find_feature

    return find_feature(model)
