"""``torchvision:NAME`` and ``timm:NAME``: networks of collections that may be installed.

A name takes its weights behind ``?``: with ``torchvision:resnet18?weights=DEFAULT`` the collection fetches what it
publishes under that name; ``?weights=FILE`` is a file of your own, read without torch. Without, they are random.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from portnet.errors import InputError, MissingDependencyError, UnknownNameError, WeightsError
from portnet.graph.metadata import Preprocessing
from portnet.weights.read import read_weights
from portnet_torch.capturing.facts import Facts, remember
from portnet_torch.capturing.tracing import first_line

__all__ = ["from_timm", "from_torchvision"]

_INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")


def from_torchvision(text: str, weights: Path | None) -> nn.Module:
    """Return a network of torchvision by ``NAME``, or ``NAME?weights=DEFAULT``.

    Raises:
        MissingDependencyError: torchvision is not installed.
        UnknownNameError: it has no such network, or no such weights of it.
        WeightsError: a file that does not fit, or published weights that cannot be fetched.
    """
    models = _torchvision_models()
    name, chosen = _options(text, weights)
    if name not in models.list_models():
        raise UnknownNameError("network of torchvision", name, models.list_models(module=models))
    known = {entry.name: entry for entry in models.get_model_weights(name)}
    known |= {"DEFAULT": models.get_model_weights(name).DEFAULT} if known else {}
    entry = known.get(chosen) if isinstance(chosen, str) else None
    if isinstance(chosen, str) and entry is None:
        raise UnknownNameError("weights", chosen, known, f"Of torchvision's {name}; a file's path will do as well.")
    network = _create(lambda: models.get_model(name, weights=entry), f"torchvision's {name}", chosen)
    if isinstance(chosen, Path):
        _load(network, chosen, name)
    published = entry or known.get("DEFAULT")
    preset = _preset(published)
    labels = tuple(entry.meta.get("categories") or ()) or None if entry is not None else None
    _remember(network, "torchvision", name, chosen, preset, labels)
    return network.eval()


def from_timm(text: str, weights: Path | None) -> nn.Module:
    """Return a network of timm by ``NAME``, or ``NAME?weights=pretrained``.

    Raises:
        MissingDependencyError: timm is not installed.
        UnknownNameError: it has no such network.
        WeightsError: a file that does not fit, or published weights that cannot be fetched.
    """
    _torchvision_if_any()
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError(f"timm is not installed, or lacks {error.name}. Run: pip install timm") from error
    name, chosen = _options(text, weights)
    if not timm.is_model(name):
        raise UnknownNameError("network of timm", name, timm.list_models())
    fetched = isinstance(chosen, str)
    network = _create(lambda: timm.create_model(name, pretrained=fetched), f"timm's {name}", chosen)
    if isinstance(chosen, Path):
        _load(network, chosen, name)
    _remember(network, "timm", name, chosen, _timm_preset(network.pretrained_cfg), None)
    return network.eval()


def _options(text: str, weights: Path | None) -> tuple[str, str | Path | None]:
    """Split ``NAME?weights=WHAT`` into the name and a published name, a file or None."""
    name, mark, option = text.partition("?")
    key, _, value = option.partition("=")
    if not mark:
        return name, weights
    if key != "weights" or not value or weights is not None:
        raise InputError(
            f"source: got {option!r} behind {name}, expected weights=DEFAULT, weights=NAME or weights=FILE"
        )
    path = Path(value)
    return name, path if path.suffix or path.is_file() else value


def _create(build: Any, what: str, weights: str | Path | None) -> nn.Module:
    try:
        return build()
    except Exception as error:  # the collection's own code, which may fetch files
        if isinstance(weights, str):
            raise WeightsError(f"{what}: the weights {weights} cannot be fetched: {first_line(error)}") from error
        raise InputError(f"{what} cannot be built: {first_line(error)}") from error


def _load(network: nn.Module, path: Path, name: str) -> None:
    arrays = read_weights(path)
    try:
        missing, unknown = network.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()}, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"weights: {path} does not fit {name}: {first_line(error)}") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the network has not"
        raise WeightsError(f"weights: {path} does not fit {name}: it {what}")


def _remember(
    network: nn.Module,
    collection: str,
    name: str,
    weights: str | Path | None,
    preset: Preprocessing | None,
    labels: tuple[str, ...] | None,
) -> None:
    origin = "random" if weights is None else str(weights)
    notes = (f"the weights are random; {collection}:{name}?weights=… takes others",) if weights is None else ()
    shape = None if preset is None else (1, 3, *preset.size)
    facts = {"source": f"{collection}:{name}", "weights": origin}
    remember(network, Facts(name, shape, preset, labels, facts, notes))


# ---- torchvision


def _torchvision_models() -> Any:
    try:
        return _imported()
    except ImportError as error:
        raise MissingDependencyError("torchvision is not installed. Run: pip install torchvision") from error


def _torchvision_if_any() -> None:
    try:
        _imported()
    except ImportError:
        return


def _imported() -> ModuleType:
    """Import torchvision's networks, also where its compiled operators do not load next to this torch.

    Two of them are asked for while it is imported, and no classifier uses them: they are declared, not defined.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise ImportError(str(error), name="torchvision") from error
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.append(torch.library.Library("torchvision", "FRAGMENT"))
            _LIBRARY[-1].define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    return importlib.import_module("torchvision.models")


# declarations live as long as what declared them
_LIBRARY: list[Any] = []


def _preset(weights: Any) -> Preprocessing | None:
    """Return how torchvision prepares images for weights: its ``ImageClassification`` preset."""
    preset = weights.transforms() if weights is not None else None
    if type(preset).__name__ != "ImageClassification":
        return None
    size, resize = _pair(preset.crop_size), preset.resize_size
    return _preprocessing(size, resize[0], preset.interpolation.value, preset.mean, preset.std)


def _timm_preset(config: Any) -> Preprocessing | None:
    """Return how timm prepares images by a network's ``pretrained_cfg``: resize by 1/crop_pct, then crop."""
    size = config.get("input_size")
    if not size or len(size) != 3 or size[0] != 3:
        return None
    resize = int(max(size[1:]) / (config.get("crop_pct") or 1))
    return _preprocessing(size[1:], resize, config.get("interpolation"), config["mean"], config["std"])


def _preprocessing(size: Any, resize: int, interpolation: Any, mean: Any, std: Any) -> Preprocessing | None:
    if interpolation not in _INTERPOLATIONS:
        interpolation = "bilinear"
    return Preprocessing(tuple(size), resize, interpolation, mean=tuple(mean), std=tuple(std))


def _pair(size: Any) -> tuple[int, int]:
    sizes = [size] if isinstance(size, int) else list(size)
    return (sizes[0], sizes[-1])
