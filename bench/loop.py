"""An epoch of PortNet's loop against a loop written by hand in the framework, over the same native network.

Both sides lower a zoo network onto the engine and train all of it by SGD with momentum, on the same batches in memory.
The other side is what one would write with the framework alone: its optimizer, its loss, the mean loss and the count of
right answers. So the ratio is what PortNet's trainer and loop cost, and what its own arithmetic saves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench.batch import LR, MOMENTUM, Batch, batch_of
from bench.row import Row
from bench.side import Process, serve
from bench.timing import Action, Budget, interleaved

__all__ = ["AIM", "NETWORK", "rows"]

NETWORK, STEPS, AIM = "squeezenet1_1", 4, 1.02
# steps over which the loop is timed without any arithmetic
EMPTY = 2000


def rows(engine: str, count: int, size: int, budget: Budget, threads: int | None) -> Iterator[Row]:
    """Return a row for one engine, in ms a step; the record has the loop's own time for each step."""
    job = {"engine": engine, "count": count, "size": size}
    with (
        Process("bench.loop", {**job, "ours": True}, threads) as ours,
        Process("bench.loop", {**job, "ours": False}, threads) as theirs,
    ):
        times = interleaved(partial(ours.ask, "epoch"), partial(theirs.ask, "epoch"), budget)
        empty = min(ours.ask("empty").wall for _ in range(3))
    row = Row("loop", NETWORK, engine, "a loop by hand", aim=AIM, **times.fields)
    assert row.ours is not None
    assert row.theirs is not None
    processor = {name: value / STEPS for name, value in (row.extra or {}).items()}
    extra = {**processor, "loop µs a step": 1e6 * empty / EMPTY}
    yield replace(row, ours=row.ours / STEPS, theirs=row.theirs / STEPS, extra=extra)


class _Same:
    """The same batch again and again."""

    def __init__(self, batch: Batch, steps: int) -> None:
        self._batch, self._steps = (batch.x, batch.y), steps

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return iter([self._batch] * (self._steps - start_batch))


class _Idle:
    """A trainer that does nothing: what is left is the loop."""

    def set_lr(self, lr: float) -> None:
        return None

    def step(self, x: np.ndarray, y: np.ndarray) -> Any:
        from portnet.adapter import StepResult

        return StepResult(1.0, 0)


def _actions(*, engine: str, ours: bool, count: int, size: int) -> dict[str, Action]:
    """Return what a process does when it is asked: an epoch."""
    import portnet
    from bench.networks import lowered, trainer

    batch = batch_of(count, size)
    network = lowered(portnet.engine(engine), NETWORK, batch)
    if not ours:
        return {"epoch": _THEIRS[engine](network, batch)}
    own = trainer(network)
    return {"epoch": lambda: _fit(network, own, batch, STEPS), "empty": lambda: _fit(network, _Idle(), batch, EMPTY)}


def _fit(network: Any, trainer: Any, batch: Batch, steps: int) -> None:
    from portnet.finetuning.loop import Fit, fit
    from portnet.finetuning.progress import SilentReporter
    from portnet.finetuning.schedule import Schedule

    job = Fit(
        lowered=network,
        trainer=trainer,
        weights=network.weights,
        train=_Same(batch, steps),
        val=None,
        classes=(),
        epochs=1,
        until=1,
        lr=LR,
        schedule=Schedule("cosine"),
        reporter=SilentReporter(),
    )
    fit(job)


def _torch(network: Any, batch: Batch) -> Action:
    import torch
    import torch.nn.functional as F

    native = network.native
    optimizer = torch.optim.SGD(native.parameters(), LR, momentum=MOMENTUM)
    native.requires_grad_(True)

    def epoch() -> tuple[float, int]:
        total, right = 0.0, 0
        native.train()
        for _ in range(STEPS):
            x = torch.from_numpy(batch.x).contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(batch.y)
            optimizer.zero_grad()
            logits = native(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            total += loss.item()
            right += int((logits.argmax(1) == y).sum())
        return total, right

    return epoch


def _keras(network: Any, batch: Batch) -> Action:
    import keras
    import tensorflow as tf

    native, x = network.native, np.ascontiguousarray(batch.x.transpose(0, 2, 3, 1))
    optimizer = keras.optimizers.SGD(LR, momentum=MOMENTUM)
    optimizer.build(native.trainable_variables)

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = native(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        optimizer.apply(tape.gradient(loss, native.trainable_variables), native.trainable_variables)
        return loss, tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == y, tf.int32))

    def epoch() -> tuple[float, int]:
        total, right = 0.0, 0
        for _ in range(STEPS):
            loss, hits = step(tf.convert_to_tensor(x), tf.convert_to_tensor(batch.y))
            total, right = total + float(loss), right + int(hits)
        return total, right

    return epoch


def _gluon(network: Any, batch: Batch) -> Action:
    import mxnet as mx

    native = network.native
    native.hybridize(static_alloc=True, static_shape=True)
    measure = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    measure.hybridize(static_alloc=True, static_shape=True)
    parameters = native.collect_params()
    for name, role in network.model.roles.items():
        if role.trainable:
            network.parameters[name].grad_req = "write"
    trainer = mx.gluon.Trainer(parameters, "sgd", {"learning_rate": LR, "momentum": MOMENTUM})

    def epoch() -> tuple[float, int]:
        total, right = 0.0, 0
        for _ in range(STEPS):
            x, y = mx.nd.array(batch.x), mx.nd.array(batch.y)
            with mx.autograd.record():
                logits = native(x)
                loss = measure(logits, y)
            loss.backward()
            trainer.step(len(batch.y))
            total += float(loss.mean().asscalar())
            right += int((logits.argmax(axis=1) == y).sum().asscalar())
        return total, right

    return epoch


_THEIRS = {"torch": _torch, "keras": _keras, "gluon": _gluon}

if __name__ == "__main__":
    serve(_actions(**json.loads(sys.argv[1])))
