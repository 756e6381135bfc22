"""What a classifier's logits are worth, computed once, in numpy, for every engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portnet.data.images import ImageSource
from portnet.data.skipped import Skipped
from portnet.drawing.text import figure
from portnet.errors import DataError
from portnet.finetuning.ambiguity import Ambiguity, rank
from portnet.finetuning.calibration import Calibration, calibrate
from portnet.runtime.session import softmax

__all__ = ["Evaluation", "cross_entropy", "evaluate_logits"]


@dataclass(frozen=True)
class Evaluation:
    """How well a network classifies a set of labelled images.

    Attributes:
        accuracy: share of images whose likeliest class is the true one, 0..1.
        top5: share of images whose true class is among the five likeliest (of all classes, if fewer).
        loss: mean cross-entropy in nats.
        calibration: expected calibration error and the bins it comes from.
        count: images.
        classes: class names.
        confusion: int64 (classes, classes); row: true class, column: predicted class; without images that
            were answered by NaN or infinity.
        logits: (count, classes), what the network answered; not part of `to_dict`.
        labels: int64 (count,), the true classes; not part of `to_dict`.
        images: the images in their order, where they are known; not part of `to_dict`.
        skipped: images that were left out, with the reason.
    """

    accuracy: float
    top5: float
    loss: float
    calibration: Calibration
    count: int
    classes: tuple[str, ...]
    confusion: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    images: tuple[ImageSource, ...] = field(default=(), repr=False)
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)

    @property
    def has_top5(self) -> bool:
        """Whether ``top5`` says anything: with five classes or fewer it is 1."""
        return len(self.classes) > 5

    @property
    def precision(self) -> dict[str, float]:
        """Of the images that were called a class, the share that is; NaN for a class never called."""
        return self._by_class(self.confusion.sum(axis=0))

    @property
    def recall(self) -> dict[str, float]:
        """Of the images of a class, the share that was called so; NaN for a class without images."""
        return self._by_class(self.confusion.sum(axis=1))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error with 15 bins, 0..1; see `portnet.finetuning.calibration`."""
        return self.calibration.error

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, (count, classes)."""
        return softmax(self.logits)

    def ambiguity(self, top: int = 10) -> Ambiguity:
        """Return the ``top`` most ambiguous images; see `portnet.finetuning.ambiguity`."""
        return rank(self.logits, self.labels, self.classes, self.images, top)

    def _by_class(self, totals: np.ndarray) -> dict[str, float]:
        right = np.diag(self.confusion)
        return {name: float(right[i] / totals[i]) if totals[i] else float("nan") for i, name in enumerate(self.classes)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "accuracy": self.accuracy,
            "top5": self.top5,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "count": self.count,
            "skipped": [list(item) for item in self.skipped],
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "precision": _without_nan(self.precision),
            "recall": _without_nan(self.recall),
        }

    def __str__(self) -> str:
        top5 = f"top-5 {self.top5:.2%}, " if self.has_top5 else ""
        return (
            f"accuracy {self.accuracy:.2%}, {top5}loss {figure(self.loss)}, "
            f"calibration error {self.calibration_error:.2%} on {self.count:,} images"
        )


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if value != value else value for name, value in values.items()}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return −log softmax(logits)[label] of each row, float64 (N,), without overflow."""
    with np.errstate(invalid="ignore"):  # infinite logits give NaN
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def evaluate_logits(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Evaluation:
    """Evaluate logits (N, classes) against class indices (N,).

    Raises:
        DataError: nothing to evaluate, or another count of classes.
    """
    if not len(labels) or logits.ndim != 2 or logits.shape != (len(labels), len(classes)):
        raise DataError(f"evaluate: got logits {logits.shape} for {len(labels)} labels, expected (N, {len(classes)})")
    answered = np.isfinite(logits).all(axis=1)  # what is no number is no answer, and so wrong
    predicted = logits.argmax(axis=1)
    true_logit = logits[np.arange(len(labels)), labels]
    rank = (logits > true_logit[:, None]).sum(axis=1)
    with np.errstate(invalid="ignore"):
        probabilities = softmax(logits)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels[answered], predicted[answered]), 1)
    return Evaluation(
        accuracy=float(((predicted == labels) & answered).mean()),
        top5=float(((rank < 5) & answered).mean()),
        loss=float(cross_entropy(logits, labels).mean()),
        calibration=calibrate(probabilities, labels),
        count=len(labels),
        classes=classes,
        confusion=confusion,
        logits=logits,
        labels=labels,
    )
