"""What an untrained network's tensors are expected to hold, for running variances to start from."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Expected"]


@dataclass(frozen=True)
class Expected:
    """A tensor's mean square over images and random weights, as a sum of two parts.

    A convolution by independent weights of mean 0 yields fan_in · variance times the mean square of what it reads,
    and a ReLU halves what is symmetric around 0 (He et al. 2015, §2.2). What a ReLU has passed once, as on a
    residual network's shortcut, the next one passes whole.

    Attributes:
        symmetric: of the part that is symmetric around 0.
        positive: of the part that is not negative.
    """

    symmetric: float = 0.0
    positive: float = 0.0

    @property
    def mean_square(self) -> float:
        """Of the tensor."""
        return self.symmetric + self.positive

    def convolved(self, gain: float) -> Expected:
        """After a convolution whose weights have fan_in · variance = ``gain``."""
        return Expected(symmetric=gain * self.mean_square)

    def rectified(self) -> Expected:
        """After a ReLU."""
        return Expected(positive=self.positive + self.symmetric / 2)

    def max_pooled(self) -> Expected:
        """After the largest of nine has been taken: of nine normal numbers it has the mean square 2.56, not 1."""
        return Expected(positive=2.56 * (self.symmetric + 2 * self.positive))

    def __add__(self, other: Expected) -> Expected:
        """Of a sum: means do not cancel, and a rectified normal number has a squared mean of 1/π of its mean square."""
        together = 2 / math.pi * math.sqrt(self.positive * other.positive)
        return Expected(self.symmetric + other.symmetric, self.positive + other.positive + together)
