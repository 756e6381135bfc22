"""What a user means by "a network": one rule for every command and function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from portnet import zoo
from portnet.engines import adapters
from portnet.errors import InputError, UnknownNameError
from portnet.graph.model import Model
from portnet.originals import Request, is_original, open_original

__all__ = ["MODEL_FILE", "find_model", "is_zoo_name"]

# a run keeps its trained network under this name in its folder
MODEL_FILE = "model.onnx"


def find_model(
    source: Any,
    *,
    weights: str | os.PathLike[str] | None = "imagenet",
    size: int | None = None,
) -> Model:
    """Return the network that ``source`` means.

    Args:
        source: a Model or what holds one (a run, a session), a name in the zoo, a run's folder, an .onnx file, or a
            network of another framework (see `portnet.originals`; it is not compared with the original here). A name of
            the zoo wins over a file or folder of that name; write ./name for those.
        weights: of a zoo network, or the file of an original's.
        size: height and width of a zoo network's input in pixels; None for what its weights were trained at.

    Raises:
        UnknownNameError: a word that is neither a file nor a name in the zoo; the nearest are offered.
        ModelError: a file that is no ONNX.
        InputError: nothing of these, a folder without a finished run, or a size for what is not the zoo's.
    """
    if is_zoo_name(source):
        if source not in zoo.names():
            raise UnknownNameError("network", str(source), zoo.names(), "No file or folder has that name either.")
        return zoo.load(str(source), weights, size=size)
    if size is not None:
        raise InputError(f"size: got {size} for {source}, expected a network of the zoo. Leave size out.")
    if isinstance(source, Model):
        return source
    held = getattr(source, "model", None)
    if isinstance(held, Model):  # a run or a session, which this layer does not know
        return held
    if is_original(source):
        return open_original(source, Request(_file(weights))).captured.model
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            f"network: got a {type(source).__name__}, expected a name in the zoo, a path, a Model, a run, or a network "
            f"of {' or '.join(adapter.framework for adapter in adapters())}"
        )
    path = Path(source)
    if not path.is_dir():
        return Model.load(path)
    if not (path / MODEL_FILE).exists():
        raise InputError(
            f"{path} holds no finished run: {MODEL_FILE} is missing. Resume the run, or name an .onnx file."
        )
    return Model.load(path / MODEL_FILE)


def _file(weights: str | os.PathLike[str] | None) -> Path | None:
    return None if weights in (None, "imagenet") else Path(weights)  # type: ignore[arg-type]


def is_zoo_name(source: str | os.PathLike[str] | Model) -> bool:
    """Whether a source is meant as a name: it is one, or is a word that no file or folder has."""
    if not isinstance(source, str):
        return False
    is_path = source.lower().endswith(".onnx") or os.path.basename(source) != source or os.path.exists(source)
    return source in zoo.names() or not (is_path or is_original(source))
