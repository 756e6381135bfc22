"""The training loop, the only one there is: epoch → batch → ``trainer.step(x, y)``.

It decides; an engine does arithmetic. Everything it decides (order, rate, when to stop) is a pure function of the
settings and the step, so a run resumes anywhere and is the same on every engine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from portnet.adapter import Inputs, Lowered, StepResult, Trainer, as_inputs
from portnet.errors import TrainingError
from portnet.finetuning.callbacks import Callbacks, Step
from portnet.finetuning.history import Epoch, History, Position, Validation
from portnet.finetuning.interrupt import Interrupt
from portnet.finetuning.interval import Interval
from portnet.finetuning.metrics import Evaluation, evaluate_logits
from portnet.finetuning.schedule import Schedule

__all__ = ["Batches", "Fit", "Reporter", "evaluate_batches", "fit", "logits_of"]

Batch = tuple[Inputs, np.ndarray]
EACH_EPOCH = Interval(1, "epochs")


class Batches(Protocol):
    """A source of batches whose order is a pure function of the epoch (`portnet.data.Loader`, cached features)."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield (x, y) of an epoch from a batch on."""


class Runs(Batches, Protocol):
    """Batches so small that several are handed over at once (`portnet.finetuning.prefix.batches.CachedBatches`)."""

    @property
    def steps_at_once(self) -> int:
        """How many."""

    def several(self, epoch: int, start_batch: int, most: int) -> Batch:
        """Return up to ``most`` batches from one on, stacked: (K, N, ...) and (K, N)."""


class Reporter(Protocol):
    """Shows a run to whoever waits for it."""

    def step(self, position: Position, batches: int, loss: float) -> None:
        """A step is done, or a few at once."""

    def validation(self, validation: Validation) -> None:
        """The validation images were classified."""

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
        until: epoch to stop before; another phase takes over there.
        lr: base learning rate.
        schedule: factor on it, by step.
        reporter: shows progress.
        callbacks: are told of it.
        val_every: when to validate, besides at the end.
        patience: validations without a lower loss after which training ends, or None for no such end. With it, the
            weights of the best validation are kept.
        save: called where a checkpoint is due, or None.
        save_every: when that is, besides at the end of every epoch.
        history: what has been, of a resumed run.
        position: where to begin.
        weights: gives the weights as they are now, by ONNX name.
        best_weights: weights at ``history.best``, by ONNX name, where ``patience`` is set.
        interrupt: looked at between steps.
        whole: False while a step is being taken, and for good once one has failed: weights, history and position may
            then be of different moments.
        asked_to_stop: whether a callback asked to end the run.
    """

    lowered: Lowered
    trainer: Trainer
    weights: Callable[[], dict[str, np.ndarray]]
    train: Batches
    val: Batches | None
    classes: tuple[str, ...]
    epochs: int
    until: int
    lr: float
    schedule: Schedule
    reporter: Reporter
    callbacks: Callbacks = field(default_factory=Callbacks)
    val_every: Interval = EACH_EPOCH
    patience: int | None = None
    save: Callable[[Fit], None] | None = None
    save_every: Interval = EACH_EPOCH
    history: History = field(default_factory=History)
    position: Position = field(default_factory=Position)
    best_weights: Mapping[str, np.ndarray] | None = None
    interrupt: Interrupt = field(default_factory=Interrupt)
    whole: bool = True
    asked_to_stop: bool = False
    last_save: float = field(default_factory=time.monotonic)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * len(self.train)

    @property
    def out_of_patience(self) -> bool:
        """Whether validation has not improved for too long."""
        return self.patience is not None and bool(self.history.validations) and self.history.since_best >= self.patience

    @property
    def is_over(self) -> bool:
        """Whether no further step is wanted."""
        return self.asked_to_stop or self.out_of_patience or self.position.epoch >= self.epochs

    def tell(self, hook: str, event: Any) -> None:
        """Tell the callbacks."""
        self.asked_to_stop = self.callbacks.tell(hook, event) or self.asked_to_stop


def fit(job: Fit) -> History:
    """Train until ``job.until`` or the end; return the history, which is ``job.history``.

    Raises:
        TrainingError: the loss is NaN or infinite, or a callback failed.
        KeyboardInterrupt: passed on. As with every exception, ``job.history`` and ``job.position`` say how far it got,
            and ``job.whole`` whether the weights are of that moment.
    """
    while job.position.batch or not (job.is_over or job.position.epoch >= job.until):
        run_epoch(job, job.position.epoch)
    return job.history


def run_epoch(job: Fit, epoch: int) -> None:
    """Train one epoch from ``job.position`` on, validate, record, save."""
    started = time.perf_counter()
    seen_before = job.position.seen
    if job.position.batch and job.val_every.after_step(len(job.history.losses)):
        validate(job)
    if getattr(job.train, "steps_at_once", 1) > 1:
        train_in_runs(job, epoch)
    else:
        train_one_by_one(job, epoch)
    seconds = time.perf_counter() - started
    position, last = job.position, epoch + 1 == job.epochs or job.is_over
    if job.val_every.after_epoch(epoch + 1) or last:
        validate(job)
    validation = next((v for v in reversed(job.history.validations) if v.epoch > epoch), None)
    record = Epoch(
        epoch=epoch,
        loss=position.loss_sum / position.seen,
        accuracy=position.correct / position.seen,
        val_loss=validation.loss if validation else None,
        val_accuracy=validation.accuracy if validation else None,
        lr=learning_rate(job, epoch, position.batch - 1),
        seconds=seconds,
        images_per_second=(position.seen - seen_before) / max(seconds, 1e-9),
    )
    job.history.epochs.append(record)
    job.position = Position(epoch + 1)
    job.reporter.epoch(record, job.epochs)
    job.tell("on_epoch", record)
    save(job)


def train_one_by_one(job: Fit, epoch: int) -> None:
    """Take the steps of an epoch from ``job.position`` on."""
    for x, y in job.train.epoch(epoch, job.position.batch):
        if job.is_over:
            break
        rate = learning_rate(job, epoch, job.position.batch)
        job.whole = False
        job.trainer.set_lr(rate)
        count_steps(job, [job.trainer.step(x, y)], len(y))
        job.whole = True
        after_steps(job, rate)


def train_in_runs(job: Fit, epoch: int) -> None:
    """Do as `train_one_by_one`, but have the engine take as many steps in one call as nobody wants to look between."""
    source = cast("Runs", job.train)
    while job.position.batch < len(source) and not job.is_over:
        first = job.position.batch
        x, y = source.several(epoch, first, min(source.steps_at_once, steps_unseen(job)))
        rates = [learning_rate(job, epoch, first + index) for index in range(len(y))]
        job.whole = False
        count_steps(job, job.trainer.steps(x, y, rates), y.shape[1])
        job.whole = True
        after_steps(job, rates[-1])


def steps_unseen(job: Fit) -> int:
    """Return after how many steps the next validation, checkpoint or callback is due."""
    if job.callbacks.listen("on_step"):
        return 1
    step, kinds = len(job.history.losses), (job.val_every, job.save_every)
    return int(min(job.total_steps, *(kind.steps_until(step) for kind in kinds)))


def count_steps(job: Fit, results: Sequence[StepResult], size: int) -> None:
    """Add steps of ``size`` examples each to the history and the epoch's sums."""
    position = job.position
    for result in results:
        if not math.isfinite(result.loss):
            raise TrainingError(
                f"the loss became {result.loss} in epoch {position.epoch + 1}, step {position.batch + 1}. "
                "Lower the learning rate, or check the preprocessing and the labels."
            )
        job.history.losses.append(result.loss)
        position.batch += 1
        position.loss_sum += result.loss * size
        position.correct += result.correct
        position.seen += size


def after_steps(job: Fit, rate: float) -> None:
    """Show where the run is, do what is due there, and end it on Ctrl-C."""
    loss = job.history.losses[-1]
    job.reporter.step(job.position, len(job.train), loss)
    after_step(job, rate, loss)
    job.interrupt.check()


def after_step(job: Fit, rate: float, loss: float) -> None:
    """Validate, tell and save where that is due."""
    position, step = job.position, len(job.history.losses)
    if job.val_every.after_step(step):
        validate(job)
    if job.callbacks.listen("on_step"):
        job.tell("on_step", Step(step, position.epoch, loss, position.correct / position.seen, rate))
    every = job.save_every
    is_late = every.unit == "seconds" and time.monotonic() - job.last_save >= every.count
    if is_late or every.after_step(step):
        save(job)


def validate(job: Fit) -> None:
    """Classify the validation images, once at any step, and keep the weights if they are the best so far."""
    step, validations = len(job.history.losses), job.history.validations
    if job.val is None or (validations and validations[-1].step == step):
        return
    result = evaluate_batches(job.lowered, job.val, job.classes)
    validation = Validation(step, step / len(job.train), result.loss, result.accuracy)
    validations.append(validation)
    if job.patience is not None and job.history.best is validation:
        job.best_weights = job.weights()
    job.reporter.validation(validation)
    job.tell("on_validation", validation)


def save(job: Fit) -> None:
    """Write a checkpoint, if the run keeps any."""
    if job.save is not None:
        job.save(job)
        job.last_save = time.monotonic()


def learning_rate(job: Fit, epoch: int, batch: int) -> float:
    """Return the learning rate of a batch: base rate times the schedule's factor."""
    return job.lr * job.schedule.factor(epoch * len(job.train) + batch, job.total_steps)


def logits_of(network: Any, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Run every batch of epoch 0 in inference mode; return logits (N, classes) and labels (N,)."""
    results = [(np.asarray(network.predict(*as_inputs(x))), y) for x, y in batches.epoch(0)]
    return np.concatenate([logits for logits, _ in results]), np.concatenate([y for _, y in results])


def evaluate_batches(network: Any, batches: Batches, classes: tuple[str, ...]) -> Evaluation:
    """Evaluate a network with ``predict`` (float32 NCHW in, logits out) on labelled batches."""
    logits, labels = logits_of(network, batches)
    return evaluate_logits(logits, labels, classes)
