"""Where a layer's arrays come from: a living network, Keras 2's files, Keras 3's files, or a seeded generator."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from portnet.errors import ModelError, WeightsError
from portnet.formats.keras.config import NetworkConfig, parse_layer

__all__ = ["ByLayer", "Legacy", "Made", "Path", "Slot", "Store", "Supply", "snake_case"]

Path = tuple[str, ...]
Fill = Literal["zeros", "ones", "random"]

# scalars that an architecture alone may ask for: four times the largest network of keras.applications
_MAX_SCALARS = 1 << 30
# what Keras's files hold besides weights
_STATES = ("seed_generator/", "optimizer/", "_metrics/", "_loss_tracker/", "metrics/")
# what SpectralNormalization counts in training, before the arrays of the layer inside
_UNREAD = ("vector_u", "sn_u")
# layers that Keras exports under another name than their class's, after which it names groups
_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}
_CAMEL = re.compile(r"(.)([A-Z][a-z]+)")
_HUMP = re.compile(r"([a-z])([A-Z])")


@dataclass(frozen=True)
class Slot:
    """One array of a layer.

    Attributes:
        name: what it is called after the layer's name, e.g. ``kernel`` or ``query/kernel``.
        shape: its shape in Keras.
        fill: what it is before training.
        group: where Keras 3's files keep it below the layer, e.g. ``cell``.
        index: its number there.
    """

    name: str
    shape: tuple[int, ...]
    fill: Fill = "zeros"
    group: str = ""
    index: int = 0


class Supply(Protocol):
    """Gives arrays of a layer, in Keras's layout."""

    def arrays(self, path: Path, slots: Sequence[Slot]) -> list[np.ndarray]:
        """Return one array a slot.

        Args:
            path: names of the networks that the layer is in, outermost left out, and its own.
            slots: what is wanted, in the order of Keras's ``layer.weights``.

        Raises:
            WeightsError: there are none for this layer, or fewer.
        """

    def unread(self) -> list[str]:
        """Return the names of arrays that nobody asked for."""


class ByLayer:
    """Arrays of a living network: those of ``layer.weights`` by the layer's path."""

    def __init__(self, arrays: Mapping[Path, Sequence[np.ndarray]]) -> None:
        self._arrays, self._read = arrays, set[Path]()

    def arrays(self, path: Path, slots: Sequence[Slot]) -> list[np.ndarray]:
        """See `Supply`."""
        found = self._arrays.get(path, ())
        self._read.add(path)
        if len(found) < len(slots):
            raise _too_few(path, len(found), slots)
        return list(found[: len(slots)])

    def unread(self) -> list[str]:
        """See `Supply`."""
        return ["/".join(path) for path, arrays in self._arrays.items() if arrays and path not in self._read]


class Legacy:
    """Arrays of a file that lists, for each layer of the outermost network, names and arrays in Keras's order.

    Layers of a network within are found by the names, in which they occur.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self._groups, self._read = groups, set[tuple[str, str]]()

    def arrays(self, path: Path, slots: Sequence[Slot]) -> list[np.ndarray]:
        """See `Supply`."""
        group = self._groups.get(path[0], {})
        names = [name for name in group if name.split("/")[-1].split(":")[0] not in _UNREAD]
        for step in reversed(path[1:]):
            below = [name for name in names if step in name.split("/")[:-1]]
            if step == path[-1] or below:
                names = below
        if len(names) < len(slots):
            raise _too_few(path, len(names), slots)
        names = names[: len(slots)]
        self._read.update((path[0], name) for name in names)
        return [group[name] for name in names]

    def unread(self) -> list[str]:
        """See `Supply`."""
        layers = {layer for layer, _ in self._read}
        return [f"{layer}/{name}" for layer, group in self._groups.items() if layer not in layers for name in group]


class Store:
    """Arrays of Keras 3's files, in which layers are numbered by class: ``layers/conv2d_1/vars/0``."""

    def __init__(self, arrays: Mapping[str, np.ndarray], network: NetworkConfig) -> None:
        self._arrays, self._read = arrays, set[str]()
        self._places = dict(_places(network, (), ""))

    def arrays(self, path: Path, slots: Sequence[Slot]) -> list[np.ndarray]:
        """See `Supply`."""
        place = self._places.get(path, "/".join(path))
        names = ["/".join(filter(None, (place, slot.group, "vars", str(slot.index)))) for slot in slots]
        missing = next((name for name in names if name not in self._arrays), None)
        if missing is not None:
            raise WeightsError(
                f"weights: layer {'/'.join(path)!r} got no array {missing!r}, expected {_wanted(slots)}. "
                "The weights are another network's."
            )
        self._read.update(names)
        return [self._arrays[name] for name in names]

    def unread(self) -> list[str]:
        """See `Supply`."""
        read = {_group_of(name) for name in self._read}
        return [
            name for name in self._arrays if _group_of(name) not in read and not any(part in name for part in _STATES)
        ]


def _group_of(name: str) -> str:
    return name.rsplit("/vars/", 1)[0]


def _places(network: NetworkConfig, path: Path, above: str) -> Iterator[tuple[Path, str]]:
    """Yield, for each layer, the group that Keras 3 keeps it in."""
    counts: dict[str, int] = {}
    for layer in network.layers:
        if layer.kind.startswith("ops.") or (network.is_sequential and layer.kind == "InputLayer"):
            continue
        word = snake_case(_CLASSES.get(layer.label, layer.label))
        counts[word] = counts.get(word, -1) + 1
        place = f"{above}layers/{word}" + (f"_{counts[word]}" if counts[word] else "")
        yield (*path, layer.name), place
        if layer.network is not None:
            yield from _places(layer.network, (*path, layer.name), f"{place}/")
        inner = parse_layer(layer.options.get("layer")) if layer.kind == "TimeDistributed" else None
        if inner is not None and inner.network is not None:
            yield from _places(inner.network, (*path, layer.name), f"{place}/layer/")


def snake_case(name: str) -> str:
    """Return a class's name as Keras spells it in files.

    >>> snake_case("Conv2DTranspose"), snake_case("ConvLSTM2D")
    ('conv2d_transpose', 'conv_lstm2d')
    """
    name = re.sub(r"\W+", "", name)
    return _HUMP.sub(r"\1_\2", _CAMEL.sub(r"\1_\2", name)).lower()


class Made:
    """Arrays for an architecture alone: kernels as Glorot and Bengio 2010 draw them, the rest as Keras begins.

    Args:
        seed: of the generator; None for zeros where Keras would draw.
    """

    def __init__(self, seed: int | None = 0) -> None:
        self._seed, self._made = seed, 0

    def arrays(self, path: Path, slots: Sequence[Slot]) -> list[np.ndarray]:
        """See `Supply`."""
        return [self._array("/".join((*path, slot.name)), slot) for slot in slots]

    def unread(self) -> list[str]:
        """See `Supply`."""
        return []

    def _array(self, name: str, slot: Slot) -> np.ndarray:
        self._made += math.prod(slot.shape)
        if self._made > _MAX_SCALARS:
            raise ModelError(f"weights: {name!r} of shape {slot.shape} makes over {_MAX_SCALARS} scalars. Refused.")
        if slot.fill == "ones":
            return np.ones(slot.shape, np.float32)
        if slot.fill == "zeros" or self._seed is None:
            return np.zeros(slot.shape, np.float32)
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        window = math.prod(slot.shape[:-2])
        fans = window * (slot.shape[-1] + (slot.shape[-2] if len(slot.shape) > 1 else 1))
        bound = np.float32(math.sqrt(6 / max(fans, 1)))
        return (generator.random(slot.shape, np.float32) * 2 - 1) * bound


def _too_few(path: Path, count: int, slots: Sequence[Slot]) -> WeightsError:
    return WeightsError(f"weights: layer {'/'.join(path)!r} got {count} arrays, expected {_wanted(slots)}")


def _wanted(slots: Sequence[Slot]) -> str:
    return ", ".join(f"{slot.name} {slot.shape}" for slot in slots)
