"""A layer's arrays: out of a caffemodel, or drawn as Caffe's fillers draw them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from portnet.errors import ModelError, WeightsError
from portnet.formats.caffe.text import Message
from portnet.formats.caffe.weights import Blobs

__all__ = ["Arrays"]

# scalars that are drawn at most, 1 GiB; VGG-19 has 144 million
MAX_DRAWN = 1 << 28


class Arrays:
    """Gives a layer its arrays in the shapes that the architecture asks for.

    Args:
        source: what the arrays' file is called in messages.
        blobs: arrays by layer, or None to draw them.
        seed: of the random numbers.

    Attributes:
        used: layers whose arrays were asked for.
        zeros: layers whose weights a filler drew as zeros.
    """

    def __init__(self, source: str, blobs: Mapping[str, Blobs] | None, seed: int) -> None:
        self.source, self.blobs, self.seed = source, blobs, seed
        self.used: set[str] = set()
        self.zeros: list[str] = []
        self._drawn = 0

    @property
    def is_drawn(self) -> bool:
        """Whether there is no file of arrays."""
        return self.blobs is None

    def get(self, layer: str, index: int, shape: Sequence[int], filler: Message, constant: float = 0.0) -> np.ndarray:
        """Return the array at a place among the layer's, float32.

        Args:
            layer: its name.
            index: the place.
            shape: what is expected.
            filler: how it is drawn without a file.
            constant: value where not even the filler says.

        Raises:
            WeightsError: the file has none there, or one of another shape.
        """
        self.used.add(layer)
        if self.blobs is None:
            return self._draw(layer, index, tuple(shape), filler, constant)
        blobs = self.blobs.get(layer)
        if blobs is None or len(blobs.arrays) <= index:
            got = 0 if blobs is None else len(blobs.arrays)
            raise WeightsError(
                f"{self.source}: layer {layer!r} got {got} arrays, expected {index + 1} or more. "
                "The prototxt is of another network, or its layers bear other names."
            )
        array = blobs.arrays[index]
        if not _fits(array.shape, tuple(shape), blobs.is_legacy[index]):
            raise WeightsError(
                f"{self.source}: layer {layer!r}, array {index} got shape {array.shape}, expected {tuple(shape)}. "
                "The prototxt is of another network, or its input has another size."
            )
        return array.reshape(shape)

    def count(self, layer: str) -> int:
        """Return how many arrays the file has of a layer."""
        blobs = None if self.blobs is None else self.blobs.get(layer)
        return 0 if blobs is None else len(blobs.arrays)

    def unused(self) -> list[str]:
        """Return the layers of the file that nothing asked for."""
        return [] if self.blobs is None else [name for name in self.blobs if name not in self.used]

    def _draw(self, layer: str, index: int, shape: tuple[int, ...], filler: Message, constant: float) -> np.ndarray:
        self._drawn += math.prod(shape)
        if self._drawn > MAX_DRAWN:
            raise ModelError(
                f"{self.source}: layer {layer!r}: got more than {MAX_DRAWN:,} parameters to draw. Give a caffemodel."
            )
        kind = filler.string("type", "constant")
        if kind == "constant" and "value" not in filler and index == 0 and constant == 0:
            self.zeros.append(layer)
        generator = np.random.default_rng([self.seed, zlib.crc32(f"{layer}.{index}".encode())])
        draw = _FILLERS.get(kind)
        if draw is None:
            raise ModelError(f"{filler.source}: layer {layer!r} got filler {kind!r}, expected {', '.join(_FILLERS)}")
        if kind == "constant":
            return np.full(shape, filler.number("value", constant), np.float32)
        return draw(generator, shape, filler).astype(np.float32, copy=False)


def _fits(got: tuple[int, ...], expected: tuple[int, ...], is_legacy: bool) -> bool:
    """Caffe's Blob::ShapeEquals: an old shape of four sizes may have ones before the expected.

    A vector may also be stored as (1, n, 1, 1), as some forks do.
    """
    if got == expected or (len(got) == 4 and len(expected) == 1 and got == (1, *expected, 1, 1)):
        return True
    ones = (1,) * (len(got) - len(expected))
    return (is_legacy or not expected) and got == ones + expected


# ---- fillers, after Caffe's include/caffe/filler.hpp


def _gaussian(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    values = generator.standard_normal(shape, np.float32) * np.float32(filler.number("std", 1))
    values += np.float32(filler.number("mean", 0))
    sparse = filler.integer("sparse", -1)
    if sparse >= 0 and shape:
        values *= generator.random(shape, np.float32) < sparse / shape[0]
    return values


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    low, high = filler.number("min", 0), filler.number("max", 1)
    return generator.random(shape, np.float32) * np.float32(high - low) + np.float32(low)


def _xavier(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    bound = math.sqrt(3 / _fan(shape, filler))
    return (generator.random(shape, np.float32) * 2 - 1) * np.float32(bound)


def _msra(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / _fan(shape, filler)))


def _unit_ball(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    values = generator.random(shape, np.float32)
    return values / values.reshape(shape[0], -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))


def _bilinear(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ModelError(f"{filler.source}: a bilinear filler got shape {shape}, expected a square kernel")
    factor = -(-shape[3] // 2)
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    line = 1 - np.abs(np.arange(shape[3]) / factor - centre)
    return np.broadcast_to(np.outer(line, line), shape).astype(np.float32)


def _constant(generator: np.random.Generator, shape: tuple[int, ...], filler: Message) -> np.ndarray:
    return np.full(shape, filler.number("value", 0), np.float32)


_FILLERS = {
    "constant": _constant,
    "gaussian": _gaussian,
    "uniform": _uniform,
    "xavier": _xavier,
    "msra": _msra,
    "positive_unitball": _unit_ball,
    "bilinear": _bilinear,
}


def _fan(shape: tuple[int, ...], filler: Message) -> float:
    """Return the count that a variance is divided by."""
    fan_in = math.prod(shape) / shape[0] if shape else 1
    fan_out = math.prod(shape) / shape[1] if len(shape) > 1 else math.prod(shape)
    norm = filler.word("variance_norm", "FAN_IN", ("FAN_IN", "FAN_OUT", "AVERAGE"))
    fans = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}
    return max(fans.get(norm, fan_in), 1)
