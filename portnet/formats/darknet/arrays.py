"""A .weights file: a header, and all arrays one behind the other, in the order of the layers.

https://github.com/pjreddie/darknet/blob/master/src/parser.c, load_weights_upto. Nothing in it tells where an array
ends: the .cfg does.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from portnet.errors import ModelError, WeightsError
from portnet.weights.arrays import contiguous_view, map_file

__all__ = ["Arrays", "Drawn", "Stored"]

_HEADER = struct.Struct("<iii")
_FLOAT = np.dtype("<f4")
MAX_DRAWN = 1 << 28


class Arrays:
    """Gives arrays in the order in which they are asked for."""

    is_transposed = False

    def take(self, name: str, shape: tuple[int, ...], std: float = 0.0, constant: float = 0.0) -> np.ndarray:
        """Return the next array, float32.

        Args:
            name: what it will be called.
            shape: its shape.
            std: deviation of what is drawn where there is no file.
            constant: value of what is not drawn.
        """
        raise NotImplementedError

    def end(self) -> None:
        """Check that all arrays were taken."""


class Stored(Arrays):
    """The arrays of a file.

    Raises:
        WeightsError: no such file, or too short for a header.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._data = path, map_file(path)
        if len(self._data) < _HEADER.size + 4:
            raise WeightsError(f"{path}: got {len(self._data)} bytes, expected the header of a .weights file")
        major, minor, _revision = _HEADER.unpack_from(self._data, 0)
        if not (0 <= major < 10_000 and 0 <= minor < 10_000):
            raise WeightsError(f"{path}: got version {major}.{minor}, expected a .weights file of Darknet")
        # the count of images seen has 64 bits from version 0.2 on
        seen = 8 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 4
        self.is_transposed = major > 1000 or minor > 1000
        self._begin = self._position = _HEADER.size + seen

    @property
    def _count(self) -> int:
        return max(len(self._data) - self._begin, 0) // 4

    def take(self, name: str, shape: tuple[int, ...], std: float = 0.0, constant: float = 0.0) -> np.ndarray:
        """Return the next array as a view of the file."""
        needed = self._position + math.prod(shape) * 4
        if needed > len(self._data):
            raise WeightsError(
                f"{self.path}: got {self._count:,} numbers, expected {(needed - self._begin) // 4:,} up to {name!r} "
                f"of shape {shape}. The file is truncated, or of another .cfg."
            )
        array = contiguous_view(self._data, _FLOAT, shape, self._position, str(self.path))
        self._position = needed
        return array

    def end(self) -> None:
        """Check that the file ends here.

        Raises:
            WeightsError: it goes on.
        """
        if self._position != len(self._data):
            raise WeightsError(
                f"{self.path}: got {self._count:,} numbers, expected {(self._position - self._begin) // 4:,}. "
                "The weights are of another .cfg."
            )


class Drawn(Arrays):
    """Arrays as Darknet draws them: normal, or constant."""

    def __init__(self, source: str, seed: int) -> None:
        self._source, self._seed, self._drawn = source, seed, 0

    def take(self, name: str, shape: tuple[int, ...], std: float = 0.0, constant: float = 0.0) -> np.ndarray:
        """Return an array that depends on name, shape and seed alone."""
        self._drawn += math.prod(shape)
        if self._drawn > MAX_DRAWN:
            raise ModelError(f"{self._source}: got more than {MAX_DRAWN:,} parameters to draw. Give a .weights file.")
        if not std:
            return np.full(shape, constant, np.float32)
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        return generator.standard_normal(shape, np.float32) * np.float32(std)
