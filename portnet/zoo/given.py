"""What a weights file gives: bare arrays, or, where it or a file beside it tells one, the network they are from.

.onnx, .keras, .h5 of a whole model, .pt2, .tflite     the network and its arrays
.prototxt, .cfg, -symbol.json, .json                   the network; its arrays lie beside it
.caffemodel, .weights, .params, .h5                    arrays; the network may lie beside them under the same name
.pth, .safetensors, .npz, pickled dicts                arrays
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portnet.errors import InputError, WeightsError
from portnet.graph.metadata import Metadata
from portnet.graph.model import Model
from portnet.graph.travel import from_props
from portnet.weights.grouped import FileLayer
from portnet.weights.safetensors import read_metadata

__all__ = ["Given", "open_weights"]

_EPOCH = re.compile(r"-\d{1,9}$")
_PROGRAMS = (".pt2", ".tflite")


@dataclass(frozen=True)
class Given:
    """What there is to fit.

    Attributes:
        source: what to call it in messages.
        path: the file that the user named.
        arrays: by name, in the file's order; those of ``model`` where there is one.
        model: the network that the arrays are from, or None.
        layers: the arrays of a file that has no names for them but its layers', or None.
        architecture: the file that tells the network, where it is not ``path``.
        is_stream: whether the file is one of Darknet's, which tells neither names nor shapes.
        carried: labels and preprocessing that lie in a file of bare arrays.
    """

    source: str
    path: Path
    arrays: Mapping[str, np.ndarray]
    model: Model | None = None
    layers: list[FileLayer] | None = None
    architecture: Path | None = None
    is_stream: bool = False
    carried: Metadata | None = None


def open_weights(path: Path, size: tuple[int, int]) -> Given:
    """Open a weights file of any kind. Nothing of it is executed.

    Args:
        path: the file.
        size: height and width of the network's images, for files that tell a network and not its sizes.

    Raises:
        PortNetError: no such file, an unknown, broken or hostile one, or layers that have no translation.
    """
    from portnet.originals import is_original
    from portnet.weights.read import read_weights

    is_word = ":" in str(path) or not path.suffix
    if not path.is_file() and not ((path.is_dir() or is_word) and is_original(str(path))):
        if path.is_dir():
            raise WeightsError(f"weights: got the folder {path}, expected a file")
        raise WeightsError(f"no such weights file: {path}")
    model, architecture = _network(path, size)
    if model is not None:
        return Given(str(path), path, model.weights(), model, None, architecture)
    if path.suffix == ".caffemodel":
        from portnet.formats.caffe.bare import read_layers

        layers = read_layers(path)
        named = {name: array for layer in layers for name, array in layer.arrays.values()}
        return Given(str(path), path, named, None, layers)
    if path.suffix == ".weights":
        return Given(str(path), path, {}, is_stream=True)
    arrays = read_weights(path)
    if path.suffix == ".safetensors":
        return Given(str(path), path, arrays, carried=from_props(read_metadata(path)))
    return Given(str(path), path, arrays)


def _network(path: Path, size: tuple[int, int]) -> tuple[Model | None, Path | None]:
    """Return the network that a file, or one beside it, tells."""
    from portnet.originals import open_original

    if path.suffix == ".onnx":
        return Model.load(path), None
    if path.suffix in _PROGRAMS or not path.is_file():
        return open_original(str(path)).captured.model, None
    if path.suffix in (".h5", ".hdf5") and not _is_whole(path):
        beside = _beside(path)
        return (_read(beside, path, size), beside) if beside is not None else (None, None)
    beside = _beside(path)
    if beside is not None:
        return _read(beside, path, size), beside
    return _read(path, None, size), None


def _read(path: Path, weights: Path | None, size: tuple[int, int]) -> Model | None:
    """Read a network's files; one that does not tell its sizes is given ours."""
    from portnet.originals import Request, read_file

    try:
        captured = read_file(path, Request(weights))
    except InputError:
        captured = read_file(path, Request(weights, (1, 3, *size)))
    return None if captured is None else captured.model


def _beside(path: Path) -> Path | None:
    """Return the file of the network whose weights a file holds, if it lies beside it."""
    from portnet.originals import FILES

    for kind in FILES:
        ending = next((ending for ending in kind.weights if path.name.endswith(ending)), None)
        if ending is None:
            continue
        stem = path.name[: -len(ending)]
        names = [
            name + other
            for name in dict.fromkeys((stem, _EPOCH.sub("", stem)))
            for other in kind.endings
            if other not in kind.whole
        ]
        found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
        if found is not None:
            return found
    return None


def _is_whole(path: Path) -> bool:
    """Whether a Keras .h5 holds the network besides its weights."""
    from portnet.weights.arrays import map_file
    from portnet.weights.hdf5 import SIGNATURE, H5File

    data = map_file(path)
    if data[: len(SIGNATURE)] != SIGNATURE:
        return False
    try:
        file = H5File(data, str(path))
        return file.text_attribute(file.messages(file.root), "model_config") is not None
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        raise WeightsError(f"{path} is broken: {error}. Fetch it again.") from error
