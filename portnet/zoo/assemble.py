"""A zoo network from its parts: the definition, weights, and what travels with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from portnet.errors import InputError, UnknownNameError
from portnet.graph.metadata import BackboneInfo, Preprocessing
from portnet.graph.model import Model
from portnet.weights.catalogue import CATALOGUE, WeightsEntry
from portnet.weights.convention import Convention
from portnet.weights.digest import digest
from portnet.weights.labels import labels
from portnet.weights.read import read_weights
from portnet.weights.report import MatchReport
from portnet.weights.store import resolve
from portnet.zoo.convention import follow
from portnet.zoo.define import define, drawn, placeholder, taken
from portnet.zoo.fitting import Fitted, fit_file, image_size
from portnet.zoo.given import Given, open_weights
from portnet.zoo.registry import ZooEntry

__all__ = ["Assembled", "assemble"]

LARGEST_CLASS_COUNT = 1_000_000
LARGEST_SIZE = 16_384
DEFAULT_CLASSES = 1000
_REFERENCE = Convention()


@dataclass(frozen=True)
class Assembled:
    """A network of the zoo.

    Attributes:
        model: the network.
        report: what became of the file's arrays; None where there is no file.
        given: the file; None where there is none.
        tensor: tensor of the file's network that is our logits, or features of a backbone; "" where it tells none.
    """

    model: Model
    report: MatchReport | None = None
    given: Given | None = None
    tensor: str = ""


def assemble(
    entry: ZooEntry,
    weights: str | os.PathLike[str] | None,
    num_classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    backbone_only: bool = False,
) -> Assembled:
    """Return the network; see `portnet.zoo.load` for the arguments and for what is raised."""
    if num_classes is not None:
        _check_count("num_classes", num_classes, 1, LARGEST_CLASS_COUNT)
    _check_count("seed", seed, 0, None)
    chosen = None if size is None else _pair(size)
    if weights is None:
        model = define(entry, num_classes or DEFAULT_CLASSES, chosen or entry.size, drawn(seed)).model
        _describe(model, entry, Preprocessing(size=entry.size), {"weights": "random", "seed": seed})
        built = Assembled(model)
    else:
        built = _with_weights(entry, weights, num_classes, chosen, seed, backbone_only)
    if chosen is not None:
        built.model.preprocessing = (built.model.preprocessing or Preprocessing()).resized(chosen)
    return built


def _with_weights(
    entry: ZooEntry,
    weights: str | os.PathLike[str],
    classes: int | None,
    size: tuple[int, int] | None,
    seed: int,
    backbone_only: bool,
) -> Assembled:
    known, given = _find_weights(entry, weights)
    if known is not None and not backbone_only:
        _check_classes(known, classes)
    fitted = fit_file(entry, given, classes=classes, size=size, backbone_only=backbone_only)
    count = classes or (DEFAULT_CLASSES if backbone_only else fitted.classes)
    preprocessing = fitted.preprocessing if known is None else known.preprocessing
    model = _define_with(entry, fitted, count, size or _size(given) or preprocessing.size, seed)
    if known is not None:
        facts: dict[str, Any] = known.provenance
    else:
        facts = _facts(given, fitted)
    _describe(model, entry, preprocessing, facts)
    if size is None and preprocessing.size != _image_size(model):
        model.preprocessing = preprocessing.resized(_image_size(model))
    if not backbone_only:
        model.labels = fitted.labels if known is None else labels(known.labels)
    return Assembled(model, fitted.report, given, fitted.tensor)


def _define_with(entry: ZooEntry, fitted: Fitted, classes: int, size: tuple[int, int], seed: int) -> Model:
    """Return an architecture with the arrays of a file, computing as the file's network does."""
    # what is fixed keeps the graph's value: Gluon too computes with a scale of 1, whatever its file says
    fixed = define(entry, classes, size, placeholder).fixed
    arrays = {name: array for name, array in fitted.arrays.items() if name not in fixed}
    model = define(entry, classes, size, taken(arrays, drawn(seed))).model
    if fitted.convention != _REFERENCE:
        follow(model.ir.graph, fitted.convention)
    for node in model.ir.graph:
        epsilon = fitted.epsilons.get(node.name or "")
        if epsilon is not None:
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", epsilon)
    return model


def _facts(given: Given, fitted: Fitted) -> dict[str, Any]:
    facts: dict[str, Any] = {"weights": given.path.name}
    if given.path.is_file():
        facts["sha256"] = digest(given.path)
    if given.architecture is not None:
        facts["weights_network"] = given.architecture.name
    return {**facts, "convention": fitted.convention.name, "match": fitted.report.summary()}


def _describe(model: Model, entry: ZooEntry, preprocessing: Preprocessing, facts: Mapping[str, Any]) -> None:
    model.metadata.backbone = BackboneInfo(entry.feature, entry.head)
    model.metadata.preprocessing = preprocessing
    model.metadata.provenance = {"architecture": entry.name, "architecture_source": entry.source, **facts}


def _image_size(model: Model) -> tuple[int, int]:
    height, width = (model.inputs[0].shape or ())[2:]
    return int(height or 0), int(width or 0)


# ---- weights


def _size(given: Given) -> tuple[int, int] | None:
    """Return height and width of the images that a file's network takes, where it says so."""
    return None if given.model is None else image_size(given.model)


def _find_weights(entry: ZooEntry, weights: str | os.PathLike[str]) -> tuple[WeightsEntry | None, Given]:
    """Return what is published of the weights, or None, and the weights."""
    from portnet.originals import is_original

    text = os.fspath(weights)
    if text in {known.name for known in CATALOGUE if known.network == entry.name}:
        return _published(*resolve(entry.name, text))
    if isinstance(weights, str) and not (_looks_like_path(text) or is_original(text)):
        raise _unknown_weights(entry, text)
    path = Path(text)
    sha256 = digest(path) if path.is_file() else ""
    for known in CATALOGUE:
        if sha256 and known.network == entry.name and _is_published(known, path, sha256):
            return _published(known, path)
    return None, open_weights(path, entry.size)


def _published(known: WeightsEntry, path: Path) -> tuple[WeightsEntry, Given]:
    return known, Given(f"the weights {known.name!r} of {known.network}", path, read_weights(path))


def _check_classes(known: WeightsEntry, classes: int | None) -> None:
    count = len(labels(known.labels))
    if classes is not None and classes != count:
        raise InputError(
            f"num_classes: got {classes}, but the weights {known.name!r} of {known.network} know {count} classes. Load "
            "them as they are and give the network a new head with portnet.finetune, or use weights=None."
        )


def _looks_like_path(text: str) -> bool:
    return Path(text).suffix != "" or os.path.basename(text) != text or Path(text).is_file()


def _unknown_weights(entry: ZooEntry, name: str) -> UnknownNameError:
    known = [known.name for known in CATALOGUE if known.network == entry.name]
    hint = f"Of {entry.name}; the path of a weights file will do as well."
    if entry.published:
        hint += f" Nobody publishes a digest of its official ones: fetch {entry.published} yourself."
    return UnknownNameError("weights", name, known, hint)


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
