"""Networks that a word or a path means: keras.applications, files, TensorFlow's folders and TensorFlow Lite's files."""

from __future__ import annotations

import importlib
import inspect
import weakref
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from portnet.errors import InputError, MissingDependencyError, PortNetError, UnknownNameError
from portnet.formats.keras import read_translation
from portnet.graph.metadata import Preprocessing
from portnet.weights.labels import labels
from portnet_keras.depth import deep
from portnet_keras.framework import keras

__all__ = ["PREFIX", "applications", "labels_of", "notes_of", "open_source", "preprocessing_of"]

PREFIX = "keras:"
_FILES = (".keras", ".h5", ".hdf5", ".json")

# the three ways of keras.applications, and none: what a network does to pixels itself stays in its graph
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MODES = {
    "caffe": {"color": "BGR", "scale": 1.0, "mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0)},
    "tf": {"color": "RGB", "scale": 127.5, "mean": (1.0, 1.0, 1.0), "std": (1.0, 1.0, 1.0)},
    "torch": {"color": "RGB", "scale": 255.0, "mean": _IMAGENET_MEAN, "std": _IMAGENET_STD},
    "none": {"color": "RGB", "scale": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
}
_DEFAULT_SIZE = 224
_PROBE = np.array([[[[255.0, 128.0, 0.0], [10.0, 20.0, 200.0]]]], np.float32)

_known: weakref.WeakKeyDictionary[Any, Preprocessing] = weakref.WeakKeyDictionary()
_labels: weakref.WeakKeyDictionary[Any, tuple[str, ...]] = weakref.WeakKeyDictionary()
_notes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def preprocessing_of(native: Any) -> Preprocessing | None:
    """Return how images become the input of a network that `open_source` made, or None."""
    return _known.get(native)


def labels_of(native: Any) -> tuple[str, ...] | None:
    """Return the classes of a network that `open_source` made with published weights, or None."""
    return _labels.get(native)


def notes_of(native: Any) -> tuple[str, ...]:
    """Return what the user must know of a network that `open_source` made."""
    note = _notes.get(native)
    return () if note is None else (note,)


def applications() -> dict[str, Any]:
    """Return what builds each network of keras.applications, by name."""
    members = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name: member for name, member in members if name[0].isupper()}


def open_source(source: str, weights: Path | None = None) -> Any:
    """Return the network that a word or path means; see `Adapter.open`."""
    if source.startswith(PREFIX):
        return _application(source.removeprefix(PREFIX))
    path = Path(source)
    if path.is_dir() or path.suffix == ".tflite":
        from portnet_keras.tracing import SavedModel, TFLiteModel

        return TFLiteModel(path) if path.suffix == ".tflite" else SavedModel(path)
    if path.suffix not in _FILES:
        raise InputError(f"keras: got {source!r}, expected {PREFIX}NAME, a SavedModel folder, or {', '.join(_FILES)}")
    return _file(path, weights)


def _application(text: str) -> Any:
    """Build ``ResNet50?weights=imagenet&size=96&classes=10&include_top=0``."""
    name, _, query = text.partition("?")
    known = applications()
    if name not in known:
        raise UnknownNameError("network of keras.applications", name, known)
    keywords = _keywords(text, dict(parse_qsl(query, keep_blank_values=True)))
    try:
        network = known[name](**keywords)
    except Exception as error:
        message = _one_line(error)
        if isinstance(error, OSError) or "fetch" in message.lower() or "url" in message.lower():
            raise MissingDependencyError(
                f"{PREFIX}{text}: its weights cannot be fetched: {message}. Go online, or leave weights out."
            ) from error
        raise InputError(f"{PREFIX}{text}: {message}") from error
    if keywords["weights"] is None:
        _notes[network] = f"the weights are random; {PREFIX}{name}?weights=imagenet takes the published ones"
    if keywords["weights"] == "imagenet" and keywords.get("include_top", True):
        _labels[network] = labels("imagenet1k")  # in the order of the synsets' numbers, as Keras's own list is
    found = _preprocessing(known[name], network)
    if found is not None:
        _known[network] = found
    return network


def _keywords(text: str, options: dict[str, str]) -> dict[str, Any]:
    """Return what to call a builder of keras.applications with."""
    strange = set(options) - {"weights", "size", "classes", "include_top", "pooling"}
    if strange:
        raise InputError(
            f"{PREFIX}{text}: got {', '.join(sorted(strange))}, expected weights, size, classes, include_top or pooling"
        )
    weights = options.get("weights", "none")
    if weights not in ("none", "imagenet"):
        raise InputError(f"{PREFIX}{text}: weights got {weights!r}, expected imagenet or none")
    keywords: dict[str, Any] = {"weights": None if weights == "none" else weights}
    if "size" in options:
        keywords["input_shape"] = (*[_number(text, options, "size")] * 2, 3)
    if "classes" in options:
        keywords["classes"] = _number(text, options, "classes")
    if "include_top" in options:
        keywords["include_top"] = options["include_top"] not in ("0", "false", "no")
    if "pooling" in options:
        keywords["pooling"] = options["pooling"]
    return keywords


def _number(text: str, options: dict[str, str], key: str) -> int:
    if not options[key].isdigit() or not 0 < int(options[key]) < 1 << 20:
        raise InputError(f"{PREFIX}{text}: {key} got {options[key]!r}, expected a positive whole number")
    return int(options[key])


def _preprocessing(build: Any, network: Any) -> Preprocessing | None:
    """Return the way whose numbers are those of the network's own ``preprocess_input``; None if it is none of them."""
    module = importlib.import_module(inspect.unwrap(build).__module__)
    wanted = np.asarray(module.preprocess_input(_PROBE.copy()))
    height, width = network.input_shape[1:3]
    size = (height or _DEFAULT_SIZE, width or _DEFAULT_SIZE)
    for mode in _MODES.values():
        pixels = _PROBE[..., ::-1] if mode["color"] == "BGR" else _PROBE
        found = (pixels / mode["scale"] - np.array(mode["mean"])) / np.array(mode["std"])
        if np.allclose(found, wanted, atol=1e-4):
            return Preprocessing(size=size, resize=None, **mode)  # type: ignore[arg-type]
    return None


def _file(path: Path, weights: Path | None) -> Any:
    """Return a file's network as Keras itself loads it, once the core's reader knows all of its layers.

    The reader refuses what could run code: Lambda layers, custom objects, links out of the file, members out of the
    archive. Keras's own checks stay on.
    """
    read_translation(path, weights)
    try:
        if path.suffix != ".json":
            with deep():
                return keras.saving.load_model(path, compile=False, safe_mode=True)
        if weights is None:
            raise MissingDependencyError(f"{path} is an architecture alone, so there are no numbers to compare")
        network = keras.models.model_from_json(path.read_text())
        network.load_weights(weights)
        return network
    except PortNetError:
        raise
    except Exception as error:
        # what Keras 3 cannot load of an older Keras, the core's reader may
        raise MissingDependencyError(f"Keras {keras.__version__} cannot load {path}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
