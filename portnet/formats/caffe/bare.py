"""A caffemodel without its prototxt: layers in the file's order, as far as their arrays tell what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from portnet.formats.caffe.weights import Blobs, read_caffemodel
from portnet.weights.grouped import FileLayer

__all__ = ["read_layers"]


def read_layers(path: Path) -> list[FileLayer]:
    """Return the layers that have arrays; blobs are called ``layer/0``, ``layer/1``, ...

    Three blobs, the last a single number, are a BatchNorm's: sums of means and variances, and what they are to be
    divided by. A layer of two vectors behind it is the Scale that belongs to it.

    Raises:
        PortNetError: no such file, broken, truncated, or lengths that lie.
    """
    layers: list[FileLayer] = []
    for name, blobs in read_caffemodel(path).items():
        arrays = [_bare(array) if legacy else array for array, legacy in _pairs(blobs)]
        norm = layers[-1] if layers and layers[-1].is_norm and "gamma" not in layers[-1].arrays else None
        if len(arrays) == 3 and arrays[2].size == 1:
            factor = float(arrays[2].reshape(-1)[0])
            share = np.float32(1 / factor if factor else 0)
            statistics = {"mean": (f"{name}/0", arrays[0] * share), "variance": (f"{name}/1", arrays[1] * share)}
            layers.append(FileLayer(name, statistics))
        elif norm is not None and arrays[0].ndim == 1 and len(arrays) <= 2:
            norm.arrays.update(_named(name, ("gamma", "beta"), arrays))
        else:
            roles = ("weight", "bias", *(f"array {i}" for i in range(2, len(arrays))))
            layers.append(FileLayer(name, _named(name, roles, arrays)))
    return layers


def _named(layer: str, roles: Sequence[str], arrays: list[np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    return {roles[i]: (f"{layer}/{i}", array) for i, array in enumerate(arrays)}


def _pairs(blobs: Blobs) -> list[tuple[np.ndarray, bool]]:
    return list(zip(blobs.arrays, blobs.is_legacy, strict=True))


def _bare(array: np.ndarray) -> np.ndarray:
    """Return an array of an old file without the axes of size 1 that it puts before others."""
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array
