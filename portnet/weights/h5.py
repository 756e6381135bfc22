"""Keras's .h5 weight files, Keras 2 and Keras 3: the arrays, under Keras's names. No model is built from them.

A weight is called ``layer/kernel`` as Keras called it, or in Keras 3's files, which number a layer's variables,
``layer/0``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import map_file
from portnet.weights.hdf5 import H5File

__all__ = ["read_h5"]

_MAX_DEPTH = 32
# what a whole saved model holds besides its weights
_OPTIMIZER = ("optimizer", "optimizer_weights")
_WHOLE_MODEL = "model_weights"


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a Keras .h5 file (weights alone, or a whole model), in order of the file.

    Raises:
        WeightsError: broken, or it uses more of HDF5 than Keras does by default (see `hdf5`).
    """
    arrays: dict[str, np.ndarray] = {}
    file = H5File(map_file(path), str(path))
    for name, array in _weights(file, file.root, (), None):
        if name in arrays:
            raise WeightsError(f"{path}: two weights are named {name!r}")
        arrays[name] = array
    return arrays


def _weights(file: H5File, address: int, path: tuple[str, ...], layer: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the datasets at and below an object; ``layer`` is Keras 3's name of the group around it."""
    messages = file.messages(address)
    members = file.members(messages)
    if members is None:
        array = file.array(messages)
        if array is not None:
            yield _name(path, layer), array
        return
    if len(path) > _MAX_DEPTH:
        raise WeightsError(f"{file.what}: groups nested deeper than {_MAX_DEPTH}. Refused.")
    if not path and _WHOLE_MODEL in members:
        yield from _weights(file, members[_WHOLE_MODEL], (), None)
        return
    named = file.text_attribute(messages, "name") if path and path[-1] == "vars" else None
    for name, member in members.items():
        if path or name not in _OPTIMIZER:
            yield from _weights(file, member, (*path, name), named)


def _name(path: tuple[str, ...], layer: str | None) -> str:
    if layer is not None:
        return f"{layer}/{path[-1]}"
    if len(path) > 2 and path[0] == path[1]:  # Keras 2 repeats the layer
        path = path[1:]
    return "/".join(path).removesuffix(":0")
