"""A call of a layer as the builders of `portnet.formats.keras.layers` see it, and where a tensor comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held
from portnet.formats.keras.options import Options
from portnet.formats.keras.supply import Path

__all__ = ["LayerNode", "Place"]


@dataclass(frozen=True)
class Place:
    """Where in the Keras network a tensor of the graph is.

    Attributes:
        path: names of networks and of the layer.
        call: which call of the layer.
        output: which of its outputs.
        order: axis i of the tensor is Keras's axis ``order[i]``.
    """

    path: Path
    call: int
    output: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class LayerNode:
    """One call of a layer, as a builder sees it.

    Attributes:
        kind: see `LayerConfig`.
        path: names of the networks around it and its own.
        name: the path in one word; nodes and weights are named after it.
        options: its configuration.
        args: arguments of the call; tensors are `Held`.
        kwargs: those given by name.
        shared: whether the layer is called elsewhere too, so that its weights must lie as every call can read them.
        group: where Keras 3's files keep its arrays below the layer that the path names.
        mask: which steps of its input count, or None where all do.
    """

    kind: str
    path: Path
    options: Options
    args: list[Any]
    kwargs: dict[str, Any]
    shared: bool = False
    group: str = ""
    mask: Held | None = None

    @property
    def name(self) -> str:
        """The path in one word."""
        return "/".join(self.path)

    @property
    def inputs(self) -> list[Held]:
        """Every tensor among the arguments, in order."""
        return list(_held([self.args, list(self.kwargs.values())]))

    @property
    def input(self) -> Held:
        """The one tensor that the layer reads.

        Raises:
            UnsupportedError: it reads none, or several.
        """
        found = self.inputs
        if len(found) != 1:
            raise UnsupportedError(f"{len(found)} inputs")
        return found[0]

    def argument(self, index: int, *names: str, default: Any = None) -> Any:
        """Return an argument by its place or by one of its names, or from the configuration."""
        if index < len(self.args):
            return self.args[index]
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
            if self.options.values.get(name) is not None:
                return self.options.values[name]
        return default


def _held(value: Any) -> Iterator[Held]:
    if isinstance(value, Held):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _held(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _held(item)
