"""Whether a classifier's probabilities mean what they say: of the images called with 80%, are 80% right?

The expected calibration error of Guo et al. 2017, "On Calibration of Modern Neural Networks"
(https://arxiv.org/abs/1706.04599), equation 3: images are put into M bins of equal width by the probability of their
likeliest class, bin m holding ((m−1)/M, m/M]; ECE = Σ (nₘ / n) · |accuracy(m) − confidence(m)|.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["BINS", "Calibration", "calibrate"]

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram's numbers; arrays have an entry a bin, in order of probability.

    Attributes:
        error: expected calibration error, 0..1.
        count: int64 (bins,), images.
        confidence: float64 (bins,), mean probability of the likeliest class; NaN for an empty bin.
        accuracy: float64 (bins,), share of images that were right; NaN for an empty bin.
    """

    error: float
    count: np.ndarray = field(repr=False)
    confidence: np.ndarray = field(repr=False)
    accuracy: np.ndarray = field(repr=False)


def calibrate(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Calibration:
    """Return the calibration of probabilities (N, classes) against class indices (N,), N ≥ 1; all NaN if one is."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    if not np.isfinite(confidence).all():
        nothing = np.full(bins, np.nan)
        return Calibration(float("nan"), np.zeros(bins, np.int64), nothing, nothing)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, confidence, minlength=bins) / count
        mean_accuracy = np.bincount(place, right, minlength=bins) / count
    gaps = np.abs(mean_accuracy - mean_confidence)[count > 0]
    error = float((count[count > 0] / len(labels) * gaps).sum())
    return Calibration(error, count, mean_confidence, mean_accuracy)
