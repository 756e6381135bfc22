"""`Captured`: what a translator returns; `Source`: what it is proved against; `Missing`: what it refuses."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portnet.errors import UnsupportedError
from portnet.graph.model import Model

__all__ = ["Captured", "Missing", "Source"]


@dataclass(frozen=True)
class Captured:
    """A network that was another framework's.

    Attributes:
        model: the network; its initializers bear the source's names, its nodes and their output tensors the names of
            the source's layers. Labels and preprocessing are set where the source tells them.
        way: how it was read, in a few words: "read from prototxt and caffemodel", "walked over Keras's layers",
            "torch.export and torch's exporter".
        notes: what the user must know, a sentence each: heads for training that were left out, layers without effect
            in inference, arrays that nothing reads.
    """

    model: Model
    way: str
    notes: tuple[str, ...] = ()


class Source(abc.ABC):
    """A network as its own framework runs it: what a captured `Model` is compared with.

    Attributes:
        label: what reports call it, e.g. "torch, as it came".
        examples: inputs that the user gave, by the captured model's input names: not every network runs on random ones,
            and lengths, masks and indices mean something.
    """

    label: str
    examples: Mapping[str, Any] | None = None

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode: arrays by the captured model's input names in, by its output names out, in the
        captured model's layout and dtypes.
        """

    def at(self, tensor: str) -> Source:
        """Return the same network up to ``tensor``, a name of the captured model, as its only output.

        Raises:
            UnsupportedError: the framework has no such place.
        """
        raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}")


class Missing:
    """Collects layers that cannot be translated, so that the user hears of all of them at once.

    Args:
        source: what the network is called in messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, place: str) -> None:
        """Note a layer's kind, with the reason where only one option of it is the matter, and its name."""
        self._found.setdefault(kind, []).append(place)

    def raise_if_any(self) -> None:
        """Refuse the network if anything was noted.

        Raises:
            UnsupportedError: names every kind and every layer of that kind.
        """
        if not self._found:
            return
        kinds = "; ".join(f"{kind} ({_places(places)})" for kind, places in sorted(self._found.items()))
        count = sum(map(len, self._found.values()))
        raise UnsupportedError(f"{self.source}: got {count} layers that have no translation to ONNX: {kinds}")


def _places(places: list[str]) -> str:
    shown = places if len(places) <= 8 else [*places[:8], f"{len(places) - 8} more"]
    return ", ".join(shown)
