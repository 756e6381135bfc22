"""Classes of different sizes: drawn more often, or weighed more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from portnet.data.rng import Purpose, generator

__all__ = ["balanced_weights", "oversampled", "oversampled_count"]


def balanced_weights(counts: Mapping[str, int]) -> tuple[float, ...]:
    """Return images / (classes · images of the class), the weights that make each class count the same.

    The definition is scikit-learn's ``class_weight="balanced"`` (King & Zeng 2001).

    Args:
        counts: images of each class, in the order of the classes; none is 0.
    """
    return tuple(sum(counts.values()) / (len(counts) * count) for count in counts.values())


def oversampled(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return indices in which each class comes as often as the largest one, int64.

    Every image comes ⌊largest / n⌋ times, n being the size of its class, and what is left to the largest class is
    drawn for each epoch anew, without replacement.
    """
    counts = np.bincount(labels)
    parts = []
    for label in np.flatnonzero(counts):
        members = np.flatnonzero(labels == label)
        copies, rest = divmod(int(counts.max()), len(members))
        drawn = generator(Purpose.OVERSAMPLE, seed, epoch, int(label)).permutation(len(members))[:rest]
        parts += [np.tile(members, copies), members[np.sort(drawn)]]
    return np.concatenate(parts).astype(np.int64)


def oversampled_count(labels: NDArray[np.int64]) -> int:
    """Return how many indices `oversampled` gives."""
    counts = np.bincount(labels)
    return int(counts.max() * np.count_nonzero(counts))
