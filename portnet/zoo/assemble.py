"""A zoo network from its parts: the definition, weights, and what travels with them."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import InputError, UnknownNameError
from portnet.graph.metadata import BackboneInfo, Metadata, Preprocessing
from portnet.graph.model import Model
from portnet.weights.catalogue import CATALOGUE, WeightsEntry
from portnet.weights.convention import Convention
from portnet.weights.digest import digest
from portnet.weights.keymaps import recognise
from portnet.weights.labels import labels
from portnet.weights.match import match
from portnet.weights.read import read_weights
from portnet.weights.store import resolve
from portnet.zoo.build import NetworkBuilder, ParameterSource
from portnet.zoo.convention import follow
from portnet.zoo.init import Init
from portnet.zoo.registry import ZooEntry

__all__ = ["assemble"]

LARGEST_CLASS_COUNT = 1_000_000
LARGEST_SIZE = 16_384
_REFERENCE = Convention()


@dataclass(frozen=True)
class _Weights:
    """Arrays of a file, and what is known of them.

    Attributes:
        arrays: by the file's own names.
        preprocessing: what they expect.
        labels: names of the classes they know, or None.
        provenance: where they are from.
        source: what to call them in messages.
        convention: how the network that they were trained in computes.
    """

    arrays: Mapping[str, np.ndarray]
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    provenance: Mapping[str, Any]
    source: str
    convention: Convention = _REFERENCE


def assemble(
    entry: ZooEntry,
    weights: str | os.PathLike[str] | None,
    num_classes: int,
    size: int | tuple[int, int] | None,
    seed: int,
) -> Model:
    """Return the network; see `portnet.zoo.load` for the arguments and for what is raised."""
    _check_count("num_classes", num_classes, 1, LARGEST_CLASS_COUNT)
    _check_count("seed", seed, 0, None)
    chosen_size = None if size is None else _pair(size)
    if weights is None:
        model, _ = _define(entry, num_classes, chosen_size or entry.size, functools.partial(_draw, seed))
        _describe(model, entry, Preprocessing(size=entry.size), {"weights": "random", "seed": seed})
    else:
        model = _with_weights(entry, _find_weights(entry, weights), num_classes, chosen_size)
    if chosen_size is not None:
        model.preprocessing = (model.preprocessing or Preprocessing()).resized(chosen_size)
    return model


def _with_weights(entry: ZooEntry, weights: _Weights, classes: int, size: tuple[int, int] | None) -> Model:
    if weights.labels is not None and len(weights.labels) != classes:
        raise InputError(
            f"num_classes: got {classes}, but {weights.source} know {len(weights.labels)} classes. Load them as they "
            "are and give the network a new head with portnet.finetune, or use weights=None."
        )
    model, net = _define(entry, classes, size or weights.preprocessing.size, _placeholder)
    convention = weights.convention
    # what `Model.weights` gave holds the graph's own constants too
    constants = model.ir.graph.initializers.keys() - net.parameters.keys()
    given = {name: array for name, array in weights.arrays.items() if name not in constants}
    arrays = match(given, net.parameters, network=entry.name, source=weights.source, convention=convention)
    # what is fixed keeps the graph's value: Gluon too computes with a scale of 1, whatever its file says
    model = model.with_weights({name: array for name, array in arrays.items() if name not in net.fixed})
    if convention != _REFERENCE:
        follow(model.ir.graph, convention)
    _describe(model, entry, weights.preprocessing, weights.provenance)
    model.labels = weights.labels
    return model


def _define(
    entry: ZooEntry, classes: int, size: tuple[int, int], source: ParameterSource
) -> tuple[Model, NetworkBuilder]:
    net = NetworkBuilder(entry.name, size, source)
    logits = entry.define(net, net.image, classes)
    return Model(net.finish(logits), Metadata()), net


def _draw(seed: int, name: str, shape: tuple[int, ...], init: Init) -> np.ndarray:
    return init.draw(name, shape, seed)


def _placeholder(name: str, shape: tuple[int, ...], init: Init) -> np.ndarray:
    """Return the value of a constant parameter, and for the others zeros that take no memory."""
    if init.distribution == "constant":
        return init.draw(name, shape, 0)
    return np.broadcast_to(np.float32(0), shape)


def _describe(model: Model, entry: ZooEntry, preprocessing: Preprocessing, facts: Mapping[str, Any]) -> None:
    model.metadata.backbone = BackboneInfo(entry.feature, entry.head)
    model.metadata.preprocessing = preprocessing
    model.metadata.provenance = {"architecture": entry.name, "architecture_source": entry.source, **facts}


# ---- weights


def _find_weights(entry: ZooEntry, weights: str | os.PathLike[str]) -> _Weights:
    text = os.fspath(weights)
    if text in {known.name for known in CATALOGUE if known.network == entry.name}:
        return _published(*resolve(entry.name, text))
    if isinstance(weights, str) and not _looks_like_path(text):
        raise _unknown_weights(entry, text)
    return _from_file(entry, Path(text))


def _looks_like_path(text: str) -> bool:
    return Path(text).suffix != "" or os.path.basename(text) != text or Path(text).is_file()


def _unknown_weights(entry: ZooEntry, name: str) -> UnknownNameError:
    known = [known.name for known in CATALOGUE if known.network == entry.name]
    hint = f"Of {entry.name}; the path of a weights file will do as well."
    if entry.published:
        hint += f" Nobody publishes a digest of its official ones: fetch {entry.published} yourself."
    return UnknownNameError("weights", name, known, hint)


def _published(known: WeightsEntry, path: Path) -> _Weights:
    source = f"the weights {known.name!r} of {known.network}"
    return _Weights(read_weights(path), known.preprocessing, labels(known.labels), known.provenance, source)


def _from_file(entry: ZooEntry, path: Path) -> _Weights:
    """Read a weights file; one of the catalogue's is known by its digest, another is taken for the reference's kind."""
    arrays = read_weights(path)
    sha256 = digest(path)
    for known in CATALOGUE:
        if known.network == entry.name and _is_published(known, path, sha256):
            return _published(known, path)
    key_map = recognise([*arrays], entry.name)
    preprocessing = (key_map and key_map.preprocessing) or Preprocessing(size=entry.size)
    convention = _REFERENCE if key_map is None else key_map.convention
    facts = {"weights": path.name, "sha256": sha256, "convention": convention.name}
    return _Weights(arrays, preprocessing, None, facts, str(path), convention)


def _is_published(known: WeightsEntry, path: Path, sha256: str) -> bool:
    found = sha256 if known.digest.algorithm == "sha256" else digest(path, known.digest.algorithm)
    return found.startswith(known.digest.value)


# ---- arguments


def _check_count(what: str, number: int, least: int, most: int | None) -> None:
    if type(number) is not int or number < least or (most is not None and number > most):
        limit = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most:,}"
        raise InputError(f"{what}: got {number!r}, expected {limit}")


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else _two(size)
    _check_count("size", height, 1, LARGEST_SIZE)
    _check_count("size", width, 1, LARGEST_SIZE)
    return height, width


def _two(size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise InputError(f"size: got {size!r}, expected pixels, or (height, width) in pixels")
    return size[0], size[1]
