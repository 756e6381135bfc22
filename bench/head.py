"""One step of a head on kept activations: PortNet's loop against each framework's own over the same numbers in memory.

The head is one dense layer, trained by Adam in batches of 32: of 512 numbers and 2 classes, as behind a frozen
ResNet-18, or of 2,048 and 101, as behind a ResNet-50. A call is an epoch of 64 steps, shuffled anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench.row import Row
from bench.side import Process, serve
from bench.timing import Action, Budget, interleaved

__all__ = ["AIMS", "OTHERS", "rows"]

HEADS = ((512, 2), (2048, 101))
BATCH, STEPS = 32, 64
LR = 1e-3
# what each engine's step is held against, and the largest ratio wanted
OTHERS = {"torch": "TensorDataset, DataLoader", "keras": "Keras fit", "gluon": "ArrayDataset, DataLoader"}
AIMS = {"torch": 0.75, "keras": 0.2, "gluon": 0.75}


def rows(engine: str, budget: Budget, threads: int | None) -> Iterator[Row]:
    """Return a row for each head on one engine, in ms a step."""
    for width, classes in HEADS:
        job = {"engine": engine, "width": width, "classes": classes}
        with (
            Process("bench.head", {**job, "ours": True}, threads) as ours,
            Process("bench.head", {**job, "ours": False}, threads) as theirs,
        ):
            times = interleaved(partial(ours.ask, "epoch"), partial(theirs.ask, "epoch"), budget)
        subject = f"dense {width:,} → {classes}"
        row = Row("head step", subject, engine, OTHERS[engine], aim=AIMS[engine], **times.fields)
        assert row.ours is not None
        assert row.theirs is not None
        yield replace(row, ours=row.ours / STEPS, theirs=row.theirs / STEPS, extra=None)


def _actions(*, engine: str, ours: bool, width: int, classes: int) -> dict[str, Action]:
    """Return what a process does when it is asked: an epoch."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH * STEPS, width)).astype(np.float32)
    y = generator.integers(0, classes, len(x))
    return {"epoch": _ours(x, y, classes, engine) if ours else _THEIRS[engine](x, y, classes)}


def _ours(x: np.ndarray, y: np.ndarray, classes: int, engine: str) -> Action:
    import itertools

    import portnet
    from portnet.data.dataset import Dataset
    from portnet.data.loader import Loader
    from portnet.finetuning.loop import Fit, run_epoch
    from portnet.finetuning.prefix.batches import CachedBatches
    from portnet.finetuning.prefix.threads import few_threads
    from portnet.finetuning.progress import SilentReporter
    from portnet.finetuning.schedule import Schedule
    from portnet.graph.metadata import Preprocessing

    names = tuple(map(str, range(classes)))
    loader = Loader(Dataset(("",) * len(x), y, names), Preprocessing(size=(1, 1)), BATCH, shuffle=True, seed=0)
    adapter, model = portnet.engine(engine), _dense(x.shape[1], classes)
    threads = few_threads(adapter, model, BATCH)
    threads.__enter__()
    lowered = adapter.lower(model)
    job = Fit(
        lowered=lowered,
        trainer=lowered.trainer(_plan(model)),
        weights=lowered.weights,
        train=CachedBatches(loader, [x], np.arange(len(x))),
        val=None,
        classes=names,
        epochs=1 << 30,
        until=1 << 30,
        lr=LR,
        schedule=Schedule(),
        reporter=SilentReporter(),
    )
    epochs = itertools.count()
    # as long as the function lives, so do the threads' limits
    return lambda threads=threads: run_epoch(job, next(epochs))


def _dense(width: int, classes: int) -> Any:
    import onnx.parser
    from onnx import numpy_helper

    import portnet

    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> dense (float[N,{width}] x) => (float[N,{classes}] y)
        {{ y = Gemm <transB=1> (x, w, b) }}"""
    )
    weight = np.random.default_rng(1).normal(0, 0.03, (classes, width)).astype(np.float32)
    for name, array in (("w", weight), ("b", np.zeros(classes, np.float32))):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return portnet.Model.from_bytes(proto.SerializeToString())


def _plan(model: Any) -> Any:
    from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan

    return TrainPlan(OptimizerSpec("adam", lr=LR), dict.fromkeys(model.weights(), ParameterPlan()))


def _torch(x: np.ndarray, y: np.ndarray, classes: int) -> Action:
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    data = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=BATCH, shuffle=True)
    head = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.Adam(head.parameters(), LR)

    def epoch() -> float:
        total, hits = 0.0, 0
        for images, labels in data:
            optimizer.zero_grad()
            logits = head(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            hits += int((logits.argmax(1) == labels).sum())
        return total

    return epoch


def _keras(x: np.ndarray, y: np.ndarray, classes: int) -> Action:
    import keras

    head = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(classes)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head.compile(optimizer=keras.optimizers.Adam(LR), loss=loss, metrics=["accuracy"])
    return lambda: head.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


def _gluon(x: np.ndarray, y: np.ndarray, classes: int) -> Action:
    np.bool = bool  # type: ignore[attr-defined]  # MXNet 1.9.1 asks for a name that NumPy has dropped
    import mxnet as mx

    data = mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(x, y.astype(np.float32)), BATCH, shuffle=True)
    head = mx.gluon.nn.Dense(classes, in_units=x.shape[1])
    head.initialize(mx.init.Xavier())
    head.hybridize(static_alloc=True, static_shape=True)
    measure = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(head.collect_params(), "adam", {"learning_rate": LR})

    def epoch() -> float:
        total, hits = 0.0, mx.metric.Accuracy()
        for images, labels in data:
            with mx.autograd.record():
                logits = head(images)
                loss = measure(logits, labels)
            loss.backward()
            trainer.step(len(labels))
            total += float(loss.mean().asscalar())
            hits.update([labels], [logits])
        return total

    return epoch


_THEIRS = {"torch": _torch, "keras": _keras, "gluon": _gluon}

if __name__ == "__main__":
    serve(_actions(**json.loads(sys.argv[1])))
