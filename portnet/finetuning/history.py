"""What a run has been so far: losses by step, validations where they were made, epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["Epoch", "History", "Position", "Validation"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Losses in nats, accuracies 0..1, times in seconds.

    ``val_loss`` and ``val_accuracy`` are those of the last validation in the epoch, None where there was none.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Validation:
    """One pass over the validation images.

    Attributes:
        step: steps taken before it.
        epoch: epochs trained before it; 1.5 is in the middle of the second.
        loss: mean cross-entropy in nats.
        accuracy: 0..1.
    """

    step: int
    epoch: float
    loss: float
    accuracy: float


@dataclass
class History:
    """A run so far.

    Attributes:
        epochs: one entry for each finished epoch.
        losses: training loss of every step.
        validations: one entry for each validation, in order.
    """

    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, index: int) -> Epoch:
        return self.epochs[index]

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    @property
    def best(self) -> Validation | None:
        """The validation of the lowest loss, the first of equal ones; None where none has a number for its loss."""
        known = [validation for validation in self.validations if math.isfinite(validation.loss)]
        return min(known, key=lambda validation: validation.loss, default=None)

    @property
    def since_best(self) -> int:
        """Validations since the best one."""
        best = self.best
        return len(self.validations) if best is None else len(self.validations) - 1 - self.validations.index(best)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "losses": self.losses,
            "validations": [asdict(validation) for validation in self.validations],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> History:
        """Read what `to_dict` returned; a validation's loss that is null was no number."""
        validations = [Validation(**validation) for validation in data.get("validations", [])]
        epochs = [Epoch(**epoch) for epoch in data["epochs"]]
        return cls(
            [replace(e, val_loss=math.nan) if e.val_loss is None and e.val_accuracy is not None else e for e in epochs],
            list(data["losses"]),
            [replace(v, loss=math.nan) if v.loss is None else v for v in validations],
        )


@dataclass
class Position:
    """Where a run stands: epoch and batch to go on with, and the running sums of that epoch."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
