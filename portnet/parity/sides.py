"""What can be compared: anything that turns arrays by input name into arrays by output name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from portnet.adapter import Lowered, Reloaded, lowered_of
from portnet.engines import KNOWN, engine, installed
from portnet.errors import InputError, ParityError, PortNetError, UnsupportedError
from portnet.formats.captured import Source
from portnet.graph.blockwise import in_full
from portnet.graph.cut import cut
from portnet.graph.fix import Sizes, fix_shapes
from portnet.graph.model import Model
from portnet.parity.fixable import lower_or_advise
from portnet.runtime.session import Session
from portnet.sources import find_model

__all__ = ["EngineSide", "FileSide", "OnnxruntimeSide", "Side", "SourceSide", "WithLogits", "side_of"]

ONNXRUNTIME = "onnxruntime"
# below it, float32 holds fewer digits
_SMALLEST_PROBABILITY = 1e-30


class Side(Protocol):
    """One of the two networks of a check.

    Attributes:
        label: what the report calls it.
        model: its graph, with signature and preprocessing.
    """

    label: str
    model: Model

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name; return arrays by output name."""

    def at(self, tensor: str) -> Side:
        """Return the same network, cut so that ``tensor`` is its only output."""


class OnnxruntimeSide:
    """A model in onnxruntime on the CPU, the reference of every check, or on another provider.

    Products with packed weights are computed in full, where the file lets onnxruntime round the other factor too.
    """

    def __init__(self, model: Model, label: str = "", provider: str = "cpu", session: Session | None = None) -> None:
        self.model = model
        self.provider = provider
        self.label = label or f"onnxruntime {provider}"
        self._session = session or Session(in_full(model), provider=provider)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name."""
        return self._session.run(inputs)

    def at(self, tensor: str) -> OnnxruntimeSide:
        """Return the network up to ``tensor``."""
        return OnnxruntimeSide(cut(self.model, outputs=[tensor]), self.label, self.provider)


class EngineSide:
    """A network lowered onto an engine, with the weights that it has there now."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.model = lowered.model
        self.label = lowered.engine if lowered.device == "cpu" else f"{lowered.engine} on {lowered.device}"

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name, in inference mode.

        Raises:
            ParityError: the framework raises, whatever it is.
        """
        return _run(self.lowered, inputs, self.label)

    def at(self, tensor: str) -> EngineSide:
        """Return the network up to ``tensor``, lowered again with the present weights."""
        part = cut(self.model.with_weights(self.lowered.weights()), outputs=[tensor])
        return EngineSide(engine(self.lowered.engine).lower(part, device=self.lowered.device))


class FileSide:
    """A network that its framework read from files: it has no inside that could be cut."""

    def __init__(self, reloaded: Reloaded, model: Model, label: str) -> None:
        self.reloaded, self.model, self.label = reloaded, model, label

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name.

        Raises:
            ParityError: the framework raises, whatever it is.
        """
        return _run(self.reloaded, inputs, self.label)

    def at(self, tensor: str) -> FileSide:
        """Refuse: files hold whole networks."""
        raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}")


class SourceSide:
    """A network in the framework that it was captured from."""

    def __init__(self, source: Source, model: Model) -> None:
        self.source, self.model, self.label = source, model, source.label

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name.

        Raises:
            ParityError: the framework raises, whatever it is.
        """
        return _run(self.source, inputs, self.label)

    def at(self, tensor: str) -> SourceSide:
        """Return the network up to ``tensor``, where its framework can be asked for that."""
        return SourceSide(self.source.at(tensor), self.model)


class WithLogits:
    """A side that also gives the logarithms of some of its outputs, as outputs called "log NAME".

    A probability near 0 or 1 says next to nothing about its logit; its logarithm is the logit, up to a number that all
    classes share.

    Args:
        side: the network.
        places: which of its outputs, by place.
    """

    def __init__(self, side: Side, places: list[int]) -> None:
        self.side, self.model, self.label = side, side.model, side.label
        self._places = places

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name."""
        results = self.side.run(inputs)
        names = list(results)
        logs = {f"log {names[place]}": _log(results[names[place]]) for place in self._places if place < len(names)}
        return {**results, **logs}

    def at(self, tensor: str) -> Side:
        """Return the network up to ``tensor``."""
        return self.side.at(tensor)


def _log(probabilities: Any) -> np.ndarray:
    array = np.asarray(probabilities)
    return np.log(np.maximum(array, _SMALLEST_PROBABILITY)).astype(array.dtype) if array.dtype.kind == "f" else array


def _run(network: Lowered | Reloaded | Source, inputs: Mapping[str, Any], label: str) -> dict[str, Any]:
    try:
        return network.run(inputs)
    except (PortNetError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ParityError(f"{label} does not run: {type(error).__name__}: {text}") from error


def side_of(thing: Any, other: Any = None, shapes: Mapping[str, Sizes] | None = None) -> Side:
    """Return the side that ``thing`` is.

    Args:
        thing: a Model, a path of an .onnx file or of a run's folder, a Session, a Lowered, a Run, a network that an
            engine made, or what runs ``other``: an engine's name, or "onnxruntime", with "@" and a device or a provider
            where that is not the CPU.
        other: what the check compares with.
        shapes: sizes to fix, see `portnet.graph.fix.fix_shapes`.

    Raises:
        InputError: nothing of these, or ``shapes`` for a network that is built already.
    """
    if isinstance(thing, Model):
        return OnnxruntimeSide(_fixed(thing, shapes))
    if isinstance(thing, (str, os.PathLike)):
        return _side_of_name(os.fspath(thing), other, shapes)
    if shapes:
        raise InputError(f"shapes: got {dict(shapes)}, expected none: {type(thing).__name__} is built already")
    return _side_of_built(thing)


def _side_of_built(thing: Any) -> Side:
    if isinstance(thing, (OnnxruntimeSide, EngineSide, FileSide, SourceSide, WithLogits)):
        return thing
    if isinstance(thing, Lowered):
        return EngineSide(thing)
    if isinstance(thing, Session):
        return OnnxruntimeSide(thing.model, provider=thing.provider, session=thing)
    if isinstance(getattr(thing, "lowered", None), Lowered):  # a Run, which this layer does not know
        return EngineSide(thing.lowered)
    lowered = lowered_of(thing)
    if lowered is not None:
        return EngineSide(lowered)
    raise InputError(
        f"check: got a {type(thing).__module__}.{type(thing).__name__}, expected a Model, an .onnx file, a run, "
        "a session, a lowered network, a network that an engine made, or an engine's name"
    )


def _side_of_name(name: str, other: Any, shapes: Mapping[str, Sizes] | None) -> Side:
    runner = _runner(name)
    if runner is not None:
        if other is None or (isinstance(other, str) and _runner(other) is not None):
            raise InputError(f"check: {name!r} needs a network on the other side, got {other!r}")
        model, where = side_of(other, shapes=shapes).model, runner[1]
        if runner[0] == ONNXRUNTIME:
            return OnnxruntimeSide(model, provider=where or "cpu")
        return EngineSide(lower_or_advise(engine(runner[0]), model, where or None))
    return OnnxruntimeSide(_fixed(find_model(name), shapes), label=f"{Path(name).name} (onnxruntime cpu)")


def _fixed(model: Model, shapes: Mapping[str, Sizes] | None) -> Model:
    return fix_shapes(model, shapes) if shapes else model


def _runner(name: str) -> tuple[str, str] | None:
    """Return what runs a network and where, as "torch", "torch@cuda:0" or "onnxruntime@cuda" say, or None."""
    what, _, where = name.partition("@")
    return (what, where) if what in {*KNOWN, *installed(), ONNXRUNTIME} and not Path(name).exists() else None
