"""Untrained networks that carry a signal, and images as unlike as photos: so that a comparison proves something."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["enliven", "make_images"]

# images that statistics are taken from
BATCH = 16


def enliven(native: Any, shape: Sequence[int], source: str) -> None:
    """Make an untrained network give more than zeros: no weight of zeros, statistics of its own activations.

    Some collections begin with a classifier of zeros, whose output would prove nothing; deep networks fade out with
    running statistics that were never trained.
    """
    if hasattr(native, "inputs"):  # one of Keras may have a size of its own
        shape = [fixed or size for fixed, size in zip(native.inputs[0].shape, shape, strict=True)]
    images = make_images([BATCH, *shape[1:]], source)
    if hasattr(native, "collect_params"):
        _enliven_gluon(native, images)
    if hasattr(native, "trainable_weights"):
        _enliven_keras(native, images)
    if not hasattr(native, "named_parameters"):
        return
    torch: Any = sys.modules["torch"]
    torch.manual_seed(0)
    norms = [module for module in native.modules() if getattr(module, "running_mean", None) is not None]
    with torch.no_grad():
        for name, value in native.named_parameters():
            if name.endswith("weight") and not value.any():
                value.normal_(0, 0.02)
        for norm in norms:
            norm.train().momentum = 1  # what comes replaces what was; nothing else trains, no branch is dropped
        if norms:
            native(torch.from_numpy(images))
        for norm in norms:
            norm.eval().momentum = 0.1


def _enliven_gluon(native: Any, images: np.ndarray) -> None:
    """Do the same to a Gluon block, whose first weights fade out in a few layers: draw them as He et al. 2015 did."""
    mx: Any = sys.modules["mxnet"]
    mx.random.seed(0)
    native.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2), force_reinit=True)
    norms: list[Any] = []
    native.apply(lambda block: norms.append(block) if hasattr(block, "running_mean") else None)
    before = [norm._kwargs["momentum"] for norm in norms]
    for norm in norms:
        norm._kwargs["momentum"] = 0  # what comes replaces what was
    with mx.autograd.train_mode():
        native(mx.nd.array(images)).wait_to_read()
    for norm, momentum in zip(norms, before, strict=True):
        norm._kwargs["momentum"] = momentum


def _enliven_keras(native: Any, images: np.ndarray) -> None:
    """Draw a Keras network's weights as He et al. 2015 did; take its statistics and its softmax's scale from images.

    Of a softmax that is certain, hardly a wrong layer shows.
    """
    rng = np.random.default_rng(0)
    # what Normalization computes with follows its weights only when these are loaded
    scalings = [layer for layer in native._flatten_layers() if type(layer).__name__ == "Normalization"]
    kept = {id(weight) for layer in scalings for weight in layer.weights}
    for weight in native.weights:
        if id(weight) in kept:
            continue
        draw = rng.standard_normal(weight.shape) / np.sqrt(max(np.prod(weight.shape[:-1]), 1) / 2)
        if "variance" in weight.path:
            draw = np.abs(draw) * 0.1 + 1
        elif weight.path.endswith(("gamma", "scale")):
            # below 1: with branches as loud as what they are added to, rounding grows from block to block
            draw = draw * 0.05 + 0.4
        elif len(weight.shape) < 2:
            draw = draw * 0.1
        weight.assign(draw)
    layers = list(native._flatten_layers())
    changed = [(layer, "momentum", 0.0) for layer in layers if hasattr(layer, "moving_mean")]
    # nothing is dropped meanwhile
    changed += [(layer, name, 0.0) for layer in layers for name in ("rate", "drop_path_rate") if hasattr(layer, name)]
    with _changed(changed):
        native(images, training=True)
    last = native.layers[-1]
    if getattr(getattr(last, "activation", None), "__name__", "") == "softmax":
        with _changed([(last, "activation", lambda logits: logits)]):
            logits = np.asarray(native(images))
        for weight in last.weights:
            weight.assign(np.asarray(weight) / logits.std())


@contextmanager
def _changed(values: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Give attributes other values for a while: triples of (object, name, value)."""
    before = [(each, name, getattr(each, name)) for each, name, _ in values]
    try:
        for each, name, value in values:
            setattr(each, name, value)
        yield
    finally:
        for each, name, value in before:
            setattr(each, name, value)


def make_images(shape: Sequence[int], source: str) -> np.ndarray:
    """Return seeded images (N, C, H, W) or (N, H, W, C), as unlike each other as photos are: noise, coarse and fine.

    Fine noise alone looks the same to a deep network, whatever its seed. Keras's networks take pixels from 0 to 255,
    and several of them scale these inside.
    """
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((*shape[:1], *(min(size, 3) for size in shape[1:])), np.float32)
    for axis, size in enumerate(shape[1:], 1):
        coarse = coarse.repeat(-(-size // coarse.shape[axis]), axis).take(range(size), axis)
    images = coarse + rng.standard_normal(shape, np.float32)
    return images * 40 + 128 if source.startswith("keras") else images
