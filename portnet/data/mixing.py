"""Mixup and CutMix: pairs of a batch's images become one, and so do their labels.

With λ drawn from Beta(α, α) and j a random order of the batch:

* mixup (Zhang et al. 2018): x = λ·xᵢ + (1−λ)·xⱼ, target λ·tᵢ + (1−λ)·tⱼ
* CutMix (Yun et al. 2019): a box of (1−λ) of the area, its centre anywhere, is that of xⱼ; λ becomes the share
  of xᵢ that is left once the box was cut at the border

One λ, one box and one order for the whole batch, as in the papers' own code.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["cutmix", "mixup", "one_hot"]

Mixed = tuple[NDArray[np.float32], NDArray[np.float32]]


def one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return float32 (N, classes), 1 at each label."""
    return np.eye(classes, dtype=np.float32)[labels]


def mixup(x: NDArray[np.float32], targets: NDArray[np.float32], alpha: float, rng: np.random.Generator) -> Mixed:
    """Mix images (N, C, H, W) and targets (N, classes) pixel by pixel."""
    share, other = np.float32(rng.beta(alpha, alpha)), rng.permutation(len(x))
    return _blend(x, x[other], share), _blend(targets, targets[other], share)


def cutmix(x: NDArray[np.float32], targets: NDArray[np.float32], alpha: float, rng: np.random.Generator) -> Mixed:
    """Put a box of another image into each of (N, C, H, W), and mix targets (N, classes) by area."""
    share, other = float(rng.beta(alpha, alpha)), rng.permutation(len(x))
    height, width = x.shape[2:]
    rows, columns = (_side(length, share, rng) for length in (height, width))
    mixed = x.copy()
    mixed[:, :, rows, columns] = x[other][:, :, rows, columns]
    cut = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, _blend(targets, targets[other], np.float32(1 - cut / (height * width)))


def _blend(one: NDArray[np.float32], other: NDArray[np.float32], share: np.float32) -> NDArray[np.float32]:
    blended: NDArray[np.float32] = share * one + (1 - share) * other
    return blended


def _side(length: int, share: float, rng: np.random.Generator) -> slice:
    """Draw one side of the box, cut at the border."""
    half, centre = int(length * math.sqrt(1 - share)) // 2, int(rng.integers(length))
    return slice(max(centre - half, 0), min(centre + half, length))
