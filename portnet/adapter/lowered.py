"""A network in an engine's own form, and the way back from the framework's object to it."""

from __future__ import annotations

import abc
import contextlib
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portnet.adapter.training import Trainer, TrainPlan
from portnet.errors import ModelError
from portnet.graph.metadata import Metadata
from portnet.graph.model import Model, Signature
from portnet.graph.travel import ATTRIBUTE, from_props, renamed

__all__ = ["Lowered", "carried_by", "lowered_of", "remember"]


class Lowered(abc.ABC):
    """A network in an engine's own form.

    Attributes:
        model: the canonical model it was lowered from; its weights are those of the moment of lowering.
        native: the framework's network (torch.fx.GraphModule, keras.Model, mxnet.gluon.SymbolBlock).
        engine: the adapter's name.
        device: where it runs.
    """

    model: Model
    native: Any
    engine: str
    device: str

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode: arrays by input name in, arrays by output name out, in ONNX's layout and dtypes."""

    @abc.abstractmethod
    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters and statistics as they are now, by ONNX name, in ONNX's layout and dtype."""

    @property
    def metadata(self) -> Metadata:
        """What travels with the native network, arrays by the names that a capture of it gives them."""
        return renamed(self.model.metadata, self._captured_names())

    def _captured_names(self) -> Mapping[str, Sequence[str]]:
        """Return names that a capture gives initializers, by ONNX name, where they are others."""
        return {}

    @abc.abstractmethod
    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays, by ONNX name and in ONNX's layout, into the network.

        Raises:
            WeightsError: an unknown name or another shape.
        """

    def keep_frozen(self) -> None:  # noqa: B027 - a framework may have no such notion
        """Keep from training in ``native`` what the framework that the network was captured from kept from training.

        ``native`` may be another object afterwards.
        """

    def _frozen(self) -> tuple[set[str], set[str]]:
        """Return the ONNX names of parameters, and of statistics, that the network's provenance calls frozen."""
        told = self.model.metadata.provenance.get("frozen")
        lists = told if isinstance(told, dict) else {}
        kinds = (lists.get("parameters"), lists.get("statistics"))
        return tuple({n for n in names if isinstance(n, str)} if isinstance(names, list) else set() for names in kinds)  # type: ignore[return-value]

    @property
    @abc.abstractmethod
    def trainable_count(self) -> int:
        """Count of scalars that the framework itself says are trainable (asked of ``native``)."""

    @abc.abstractmethod
    def trainer(self, plan: TrainPlan) -> Trainer:
        """Return a trainer of this network. One at a time: an earlier one is no longer valid."""

    def __repr__(self) -> str:
        return f"<{self.model.name or 'network'} on {self.engine} ({self.device}): {self.trainable_count:,} trainable>"

    def predict(self, *inputs: Any) -> Any:
        """Run in inference mode on arrays in the order of the model's inputs (images: float32 NCHW).

        Returns:
            An array for a network of one output, else a list of arrays in the order of the outputs.
        """
        names = [port.name for port in self.model.inputs]
        if len(inputs) != len(names):
            raise ModelError(f"predict: got {len(inputs)} inputs, expected {len(names)}: {', '.join(names)}")
        for port, array in zip(self.model.inputs, inputs, strict=True):
            _check_shape(port, array)
        results = self.run(dict(zip(names, inputs, strict=True)))
        values = [results[port.name] for port in self.model.outputs]
        return values[0] if len(values) == 1 else values

    def check_trainable_count(self) -> None:
        """Assert that nothing trainable was lost or added on the way.

        Raises:
            ModelError: the framework counts other than the graph does.
        """
        expected = self.model.parameter_count
        if self.trainable_count != expected:
            raise ModelError(
                f"lowering {self.model.name!r} onto {self.engine}: got {self.trainable_count:,} trainable scalars, "
                f"expected {expected:,}. This is a bug in the adapter."
            )


def _check_shape(port: Signature, array: Any) -> None:
    """Raise ModelError where an array has another rank, or another size than a fixed one."""
    got, expected = getattr(array, "shape", None), port.shape
    if got is None or expected is None:
        return
    if not fits(got, expected):
        raise ModelError(f"predict: got shape {tuple(got)}, expected {port}")


def fits(shape: Sequence[int], expected: Sequence[int | str | None]) -> bool:
    """Whether an array of a shape has the rank and the fixed sizes that are expected."""
    return len(shape) == len(expected) and all(
        not isinstance(size, int) or size == n for n, size in zip(shape, expected, strict=True)
    )


# the way back from a native network to what it was lowered from, as long as that is alive
_LOWERED: weakref.WeakValueDictionary[int, Lowered] = weakref.WeakValueDictionary()


# what travels with a network, for as long as its native form lives
_CARRIED: weakref.WeakKeyDictionary[Any, Metadata] = weakref.WeakKeyDictionary()


def remember(lowered: Lowered) -> None:
    """Let `lowered_of` find a network, for as long as it lives, and `carried_by` what travels with it."""
    _LOWERED[id(lowered.native)] = lowered
    with contextlib.suppress(TypeError):  # of a kind that cannot be a key
        _CARRIED[lowered.native] = lowered.metadata


def carried_by(native: Any) -> Metadata:
    """Return labels, preprocessing and provenance of a native network that an engine or a generated file made."""
    try:
        known = _CARRIED.get(native)
    except TypeError:
        known = None
    return known if known is not None else from_props(getattr(native, ATTRIBUTE, None))


def lowered_of(native: Any) -> Lowered | None:
    """Return what a native network belongs to, or None if no engine of this process made it."""
    lowered = _LOWERED.get(id(native))
    return lowered if lowered is not None and lowered.native is native else None
