"""The training loop, the only one there is: epoch → batch → ``trainer.step(x, y)``.

It decides; an engine does arithmetic. Everything it decides (order, rate, when to stop) is a pure function of the
settings and the step, so a run resumes anywhere and is the same on every engine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from portnet.adapter import Lowered, Trainer
from portnet.errors import TrainingError
from portnet.finetuning.interrupt import Interrupt
from portnet.finetuning.metrics import Evaluation, evaluate_logits
from portnet.finetuning.schedule import Schedule

__all__ = ["Batches", "Epoch", "Fit", "History", "Position", "Reporter", "fit", "logits_of"]

Batch = tuple[np.ndarray, np.ndarray]


class Batches(Protocol):
    """A source of batches whose order is a pure function of the epoch (`portnet.data.Loader`, cached features)."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield (x, y) of an epoch from a batch on."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Losses in nats, accuracies 0..1, times in seconds."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float


@dataclass
class History:
    """A run so far.

    Attributes:
        epochs: one entry for each finished epoch.
        losses: training loss of every step.
    """

    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, index: int) -> Epoch:
        return self.epochs[index]

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"epochs": [asdict(epoch) for epoch in self.epochs], "losses": self.losses}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> History:
        """Read what `to_dict` returned."""
        return cls([Epoch(**epoch) for epoch in data["epochs"]], list(data["losses"]))


@dataclass
class Position:
    """Where a run stands: epoch and batch to go on with, and the running sums of that epoch."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0


class Reporter(Protocol):
    """Shows a run to whoever waits for it."""

    def step(self, position: Position, batches: int, loss: float) -> None:
        """One step is done."""

    def epoch(self, epoch: Epoch, total: int) -> None:
        """One epoch is done."""


@dataclass
class Fit:
    """One training run, ready to go.

    Attributes:
        lowered: the network that trains, changed in place.
        trainer: its trainer.
        train: training batches.
        val: validation batches, or None.
        classes: class names.
        epochs: epochs in all.
        lr: base learning rate.
        schedule: factor on it, by step.
        reporter: shows progress.
        save: called with (position, history) where a checkpoint is due, or None.
        save_every: steps between checkpoints inside an epoch; 0 for none but at its end.
        history: what has been, of a resumed run.
        position: where to begin.
        interrupt: looked at between steps.
    """

    lowered: Lowered
    trainer: Trainer
    train: Batches
    val: Batches | None
    classes: tuple[str, ...]
    epochs: int
    lr: float
    schedule: Schedule
    reporter: Reporter
    save: Callable[[Position, History], None] | None = None
    save_every: int = 0
    history: History = field(default_factory=History)
    position: Position = field(default_factory=Position)
    interrupt: Interrupt = field(default_factory=Interrupt)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * len(self.train)


def fit(job: Fit) -> History:
    """Train; return the history, which is ``job.history``.

    Raises:
        TrainingError: the loss is NaN or infinite; the last checkpoint is untouched.
        KeyboardInterrupt: passed on; ``job.history`` and ``job.position`` say how far it got.
    """
    for epoch in range(job.position.epoch, job.epochs):
        run_epoch(job, epoch)
    return job.history


def run_epoch(job: Fit, epoch: int) -> None:
    """Train one epoch from ``job.position`` on, validate, record, save."""
    started = time.perf_counter()
    first = job.position.batch
    seen_before = job.position.seen
    for x, y in job.train.epoch(epoch, first):
        train_step(job, epoch, x, y)
    seconds = time.perf_counter() - started
    position = job.position
    validation = evaluate_batches(job.lowered, job.val, job.classes) if job.val is not None else None
    record = Epoch(
        epoch=epoch,
        loss=position.loss_sum / position.seen,
        accuracy=position.correct / position.seen,
        val_loss=validation.loss if validation else None,
        val_accuracy=validation.accuracy if validation else None,
        lr=learning_rate(job, epoch, len(job.train) - 1),
        seconds=seconds,
        images_per_second=(position.seen - seen_before) / max(seconds, 1e-9),
    )
    job.history.epochs.append(record)
    job.position = Position(epoch + 1)
    job.reporter.epoch(record, job.epochs)
    if job.save:
        job.save(job.position, job.history)


def train_step(job: Fit, epoch: int, x: np.ndarray, y: np.ndarray) -> None:
    """Take one step at its place in the schedule and add it to the epoch's sums."""
    position = job.position
    job.trainer.set_lr(learning_rate(job, epoch, position.batch))
    result = job.trainer.step(x, y)
    if not math.isfinite(result.loss):
        raise TrainingError(
            f"the loss became {result.loss} in epoch {epoch + 1}, step {position.batch + 1}. "
            "Lower the learning rate, or check the preprocessing and the labels."
        )
    job.history.losses.append(result.loss)
    position.batch += 1
    position.loss_sum += result.loss * len(y)
    position.correct += result.correct
    position.seen += len(y)
    job.reporter.step(position, len(job.train), result.loss)
    if job.save and job.save_every and position.batch % job.save_every == 0:
        job.save(position, job.history)
    job.interrupt.check()


def learning_rate(job: Fit, epoch: int, batch: int) -> float:
    """Return the learning rate of a batch: base rate times the schedule's factor."""
    return job.lr * job.schedule.factor(epoch * len(job.train) + batch, job.total_steps)


def logits_of(network: Any, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Run every batch of epoch 0 in inference mode; return logits (N, classes) and labels (N,)."""
    results = [(np.asarray(network.predict(x)), y) for x, y in batches.epoch(0)]
    return np.concatenate([logits for logits, _ in results]), np.concatenate([y for _, y in results])


def evaluate_batches(network: Any, batches: Batches, classes: tuple[str, ...]) -> Evaluation:
    """Evaluate a network with ``predict`` (float32 NCHW in, logits out) on labelled batches."""
    logits, labels = logits_of(network, batches)
    return evaluate_logits(logits, labels, classes)
