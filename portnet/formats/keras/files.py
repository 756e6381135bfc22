"""Keras's files → `Captured`, without Keras: .keras, .h5 of Keras 2 and 3, .json with or without weights.

Nothing in a file is executed, no class is looked up by a name from it. Lambda layers, custom objects and marshalled
code are words that no table has.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import InputError, ModelError, PortNetError, WeightsError
from portnet.formats.captured import Captured
from portnet.formats.keras.config import NetworkConfig
from portnet.formats.keras.supply import Legacy, Made, Store, Supply
from portnet.formats.keras.translate import Translation, translate
from portnet.graph.metadata import Metadata
from portnet.graph.travel import FILE, from_text, take_along
from portnet.weights.arrays import Buffer, map_file
from portnet.weights.h5 import H5Group, read_groups
from portnet.weights.hdf5 import SIGNATURE
from portnet.weights.zipped import Archive

__all__ = ["is_keras", "read", "read_translation"]

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_MAX_CONFIG = 32 << 20
_MAX_MEMBERS = 10_000
_BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, OSError, struct.error, zlib.error)
_ZIP = b"PK\x03\x04"

SupplyMaker = Callable[[NetworkConfig], Supply]


def read(
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    seed: int | None = 0,
    keep_layout: bool = False,
) -> Captured:
    """Read a Keras network.

    Args:
        path: .keras (Keras 3, and Keras 2.13 on), .h5 or .hdf5 with the whole network (Keras 2 and 3), or .json with
            its architecture. What is in the file decides, not its name.
        weights: .h5 of an architecture in .json; None to make some.
        seed: of the weights that are made; None for kernels of zero.
        keep_layout: whether images stay channels last at the border; see `CaptureOptions`.

    Raises:
        ModelError: no such file, none of Keras's, broken or hostile.
        WeightsError: weights that are damaged, missing or another network's.
        UnsupportedError: names every layer that has no translation.
    """
    return read_translation(path, weights, seed=seed, keep_layout=keep_layout).captured


def read_translation(
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    seed: int | None = 0,
    keep_layout: bool = False,
) -> Translation:
    """Return `read`'s result and how to find its tensors again in Keras."""
    path = Path(path)
    try:
        document, version, supply, way = _opened(path, None if weights is None else Path(weights), seed)
        translation = translate(
            document,
            make_supply=supply,
            way=way,
            source=str(path),
            keras2=_is_keras2(version, document),
            keep_layout=keep_layout,
        )
        take_along(translation.captured.model, _carried(path))
        return translation
    except PortNetError:
        raise
    except RecursionError as error:
        raise ModelError(f"{path}: its configuration is nested too deep. Refused.") from error
    except (*_BROKEN, MemoryError, EOFError, zipfile.BadZipFile) as error:
        text = " ".join(str(error).split())
        raise ModelError(f"{path} is broken: {text or type(error).__name__}. Fetch it again.") from error


def is_keras(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `read` takes, told by its content and not by its name alone."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_ZIP):
        with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else path.open("rb") as archive:
            return isinstance(archive, zipfile.ZipFile) and _CONFIG in archive.namelist()
    return head == SIGNATURE or (path.suffix == ".json" and head.lstrip()[:1] == b"{")


def _opened(path: Path, weights: Path | None, seed: int | None) -> tuple[Mapping[str, Any], str, SupplyMaker, str]:
    """Return configuration, version of Keras, what makes the arrays, and the way in words."""
    if not path.is_file():
        raise ModelError(f"no such file: {path}")
    data = map_file(path)
    if data[:4] == _ZIP or data[:8] == SIGNATURE:
        if weights is not None:
            raise InputError(f"weights: got {weights} for {path}, which has its own. Leave it out.")
        return _archive(path) if data[:4] == _ZIP else _whole(data, path)
    document = _document(data[: _MAX_CONFIG + 1], str(path))
    version = str(document.get("keras_version", ""))
    if weights is None:
        made = "zeros" if seed is None else f"random weights of seed {seed}"
        return document, version, lambda network: Made(seed), f"architecture read from {path.name}, {made}"
    if not weights.is_file():
        raise WeightsError(f"no such weights file: {weights}")
    mapped = map_file(weights)
    if mapped[:8] != SIGNATURE:
        raise WeightsError(f"{weights} is no HDF5 file: expected Keras's .h5")
    root = read_groups(mapped, str(weights))
    way = f"read from {path.name} and {weights.name}"
    return document, version, lambda network: _supply(root, network, str(weights)), way


def _archive(path: Path) -> tuple[Mapping[str, Any], str, SupplyMaker, str]:
    archive = Archive(path)
    if len(archive.members) > _MAX_MEMBERS:
        raise ModelError(f"{path}: over {_MAX_MEMBERS} members. Refused.")
    for name in archive.members:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise ModelError(f"{path}: member {name!r} leads outside the archive. Refused.")
    if _CONFIG not in archive.members:
        raise ModelError(f"{path} is no Keras archive: it lacks {_CONFIG}")
    document = _document(archive.inflated(_CONFIG), f"{path}, {_CONFIG}")
    about = _document(archive.inflated(_METADATA), f"{path}, {_METADATA}") if _METADATA in archive.members else {}
    version = str(about.get("keras_version", "3"))

    def supply(network: NetworkConfig) -> Supply:
        data = archive.inflated(_WEIGHTS)
        return _supply(read_groups(data, f"{path}, {_WEIGHTS}"), network, str(path))

    return document, version, supply, f"read from {path.name}"


def _carried(path: Path) -> Metadata:
    """Return what PortNet left in an archive of Keras's besides the network."""
    with path.open("rb") as file:
        if file.read(4) != _ZIP:
            return Metadata()
    archive = Archive(path)
    return from_text(archive.inflated(FILE), str(path)) if FILE in archive.members else Metadata()


def _whole(data: Buffer, path: Path) -> tuple[Mapping[str, Any], str, SupplyMaker, str]:
    root = read_groups(data, str(path))
    config = root.text("model_config")
    if config is None:
        raise ModelError(f"{path} holds weights alone: it has no model_config. Give the architecture's .json with it.")
    document, version = _document(config.encode(), f"{path}, model_config"), root.text("keras_version") or "2"
    arrays = root.groups.get("model_weights", root)
    return document, version, lambda network: _supply(arrays, network, str(path)), f"read from {path.name}"


def _document(data: Any, what: str) -> Mapping[str, Any]:
    if len(data) > _MAX_CONFIG:
        raise ModelError(f"{what}: over {_MAX_CONFIG} bytes of configuration. Refused.")
    try:
        document = json.loads(bytes(data))
    except (ValueError, UnicodeError) as error:
        raise ModelError(f"{what} is no JSON: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping):
        raise ModelError(f"{what}: got a {type(document).__name__}, expected an object of JSON")
    return document


def _supply(group: H5Group, network: NetworkConfig, what: str) -> Supply:
    """Return the arrays of a file: listed by layer, or numbered by class as Keras 3 does."""
    layers = group.texts("layer_names")
    if layers is not None:
        return Legacy({name: _listed(group.groups.get(name), name, what) for name in layers})
    arrays = dict(group.flat())
    old = "_layer_checkpoint_dependencies/"
    return Store({name.replace(old, "layers/"): array for name, array in arrays.items()}, network)


def _listed(group: H5Group | None, layer: str, what: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in (group.texts("weight_names") or []) if group is not None else []:
        array = group.find(name) if group is not None else None
        if array is None:
            raise WeightsError(f"{what}: layer {layer!r} lists a weight {name!r} that is not there. Fetch it again.")
        found[name] = array
    return found


def _is_keras2(version: str, document: Mapping[str, Any]) -> bool:
    """Whether a network was Keras 2's; a lone architecture of Keras 3 does not say a version, but its module."""
    return version.startswith(("1", "2")) if version else "module" not in document
