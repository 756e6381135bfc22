"""What both sides are given: a random batch, and the optimizer's numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CLASSES", "LR", "MOMENTUM", "Batch", "batch_of"]

CLASSES = 1000
LR, MOMENTUM = 1e-3, 0.9


@dataclass(frozen=True)
class Batch:
    """Images (N, 3, size, size) float32, and class indices (N,) int64."""

    x: np.ndarray
    y: np.ndarray


def batch_of(count: int, size: int) -> Batch:
    """Return a random batch."""
    generator = np.random.default_rng(3)
    x = generator.standard_normal((count, 3, size, size), dtype=np.float32)
    return Batch(x, generator.integers(0, CLASSES, count))
