"""Random values that untrained layers start from, as the references draw them.

Kernels have the shape (out, in / groups, height, width). Each parameter has a stream of random numbers of its own,
so its values do not depend on the rest of the network.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Init", "constant", "fan_in_uniform", "he_normal", "he_uniform", "normal"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Init:
    """A rule to draw a parameter by.

    Attributes:
        distribution: "constant", "normal" around 0, or "uniform" around 0.
        scale: from the parameter's shape: the constant, the standard deviation, or the bound.
    """

    distribution: Literal["constant", "normal", "uniform"]
    scale: Callable[[Shape], float]

    def variance(self, shape: Shape) -> float:
        """Return the expected variance of the values drawn for a shape."""
        return self.scale(shape) ** 2 * {"constant": 0, "normal": 1, "uniform": 1 / 3}[self.distribution]

    def draw(self, name: str, shape: Shape, seed: int) -> np.ndarray:
        """Return a float32 array that depends on name, shape and seed alone."""
        import numpy as np

        generator, scale = np.random.default_rng([seed, zlib.crc32(name.encode())]), self.scale(shape)
        if self.distribution == "constant":
            return np.full(shape, scale, np.float32)
        if self.distribution == "normal":
            return generator.standard_normal(shape, np.float32) * np.float32(scale)
        return generator.uniform(-scale, scale, shape).astype(np.float32)


def constant(value: float) -> Init:
    """All entries ``value``."""
    return Init("constant", lambda shape: value)


def normal(std: float) -> Init:
    """Normal with mean 0."""
    return Init("normal", lambda shape: std)


def he_normal() -> Init:
    """Normal with variance 2 / fan_out, fan_out = height · width · out (He et al. 2015, §2.2, backward case).

    torch counts all outputs even of a convolution in groups, and so does this.
    """
    return Init("normal", lambda shape: math.sqrt(2 / (shape[0] * math.prod(shape[2:]))))


def he_uniform() -> Init:
    """Uniform with variance 2 / fan_in: ±√(6 / fan_in) (He et al. 2015, §2.2, forward case)."""
    return Init("uniform", lambda shape: math.sqrt(6 / math.prod(shape[1:])))


def fan_in_uniform(fan_in: int) -> Init:
    """Uniform ±1/√fan_in: torch's default for the weight and the bias of a dense layer."""
    return Init("uniform", lambda shape: 1 / math.sqrt(fan_in))
