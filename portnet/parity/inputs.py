"""Inputs to compare networks on: seeded random arrays for any signature, and real images."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.data.preprocess import preprocess
from portnet.errors import InputError
from portnet.graph.model import Model, Signature

__all__ = ["image_inputs", "random_inputs"]

# size of a free axis that is not the batch: images get their preprocessing's size, the rest this
FREE_AXIS = 16


def random_inputs(model: Model, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return seeded random arrays for every input of ``model``: floats standard normal, integers 0 or 1.

    A symbolic first axis takes ``batch``; axes of one symbolic name take one size.
    """
    generator = np.random.default_rng(seed)
    batch_name = _batch_name(model)
    return {port.name: _random(generator, port, _shape(model, port, batch, batch_name)) for port in model.inputs}


def _batch_name(model: Model) -> str | None:
    first = model.inputs[0].shape if model.inputs else None
    return first[0] if first and isinstance(first[0], str) else None


def _shape(model: Model, port: Signature, batch: int, batch_name: str | None) -> tuple[int, ...]:
    if port.shape is None:
        raise InputError(f"check: input {port.name!r} has no known rank. Pass inputs.")
    sizes = []
    for axis, dim in enumerate(port.shape):
        if isinstance(dim, int):
            sizes.append(dim)
        elif axis == 0 or (dim is not None and dim == batch_name):
            sizes.append(batch)
        elif len(port.shape) == 4 and axis >= 2:
            sizes.append(model.preprocessing.size[axis - 2] if model.preprocessing else 64)
        else:
            sizes.append(FREE_AXIS)
    return tuple(sizes)


def _random(generator: np.random.Generator, port: Signature, shape: tuple[int, ...]) -> np.ndarray:
    if port.dtype == "string":
        raise InputError(f"check: input {port.name!r} holds strings. Pass inputs.")
    dtype = np.dtype(port.dtype) if port.dtype != "bfloat16" else _bfloat16()
    if dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def _bfloat16() -> Any:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def image_inputs(model: Model, images: Any) -> dict[str, np.ndarray]:
    """Return the network's input made from real images by its own preprocessing."""
    if len(model.inputs) != 1:
        raise InputError(f"check: images need a network of one input, got {len(model.inputs)}")
    return {model.inputs[0].name: preprocess(model, images)}
