"""Training a head on a frozen network, from JPEG files to the last step: PortNet against what one would write by hand.

Two jobs, each from the same folder, all images in batches of 32: the Keras tutorial on Caltech-101 (ResNet-50 at
256×256 under two dense layers, Adam) against its own ``fit`` and against a plain torch loop over torchvision's network,
and MXNet's cats and dogs (ResNet-18 v2 at 224×224 under one dense layer, SGD) against its Gluon loop. Networks have
random weights and batch norms that know the statistics of their images; they are made before the clock starts, as are
the frameworks' imports. PortNet's time is that of the whole call of `portnet.finetune` with an empty cache. The other's
epochs are all alike but for the first, so a few are timed and stand for the rest.

A second run, with another head, finds the activations of the first. What is left of it is the head's own arithmetic,
so it is measured with a linear head and with one of 256 hidden numbers. It is timed on as many images as such a job
has; what the first would have taken on them is the second's time and, for each image, what a first run on fewer
images took longer than a second one on the same. The activations that it finds there are those of a few images, again
and again: how long it takes does not depend on them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.batch import batch_of
from bench.pictures import pictures
from bench.row import Row
from bench.side import Process, serve
from bench.timing import Action, Sample

__all__ = ["JOBS", "Work", "rows"]

BATCH = 32


@dataclass(frozen=True)
class Job:
    """One comparison.

    Attributes:
        network: name in the zoo.
        size: height and width of the input.
        engine: whose PortNet trains on; the other's framework.
        against: name of the other.
        aim: largest ratio of times wanted.
        many: images of a second run: as many as one trains on in that job, 64% of Caltech-101's 8,677
            (https://data.caltech.edu/records/mzrjq-6wc02) and 80% of the 25,000 of Kaggle's "Dogs vs. Cats".
    """

    network: str
    size: int
    engine: str
    against: str
    aim: float
    many: int


JOBS = (
    Job("resnet50", 256, "keras", "keras.applications, fit", 1 / 30, 5_553),
    Job("resnet50", 256, "torch", "torchvision, frozen, plain loop", 1 / 30, 5_553),
    Job("resnet18_v2", 224, "gluon", "gluon.model_zoo, plain loop", 1 / 15, 20_000),
)
# a second run over the first, by its head
AGAIN = {"linear head": 1 / 100, "head of 256": None}


@dataclass(frozen=True)
class Work:
    """How much there is to do: images, passes over them, how many of the other's are timed, and images of a second run.

    A first run takes longer the more images there are, the second hardly: what it is worth depends on their count,
    which is the job's own where None is said.
    """

    count: int = 128
    epochs: int = 20
    timed: int = 4
    many: int | None = None


def rows(job: Job, work: Work, threads: int | None) -> Iterator[Row]:
    """Return rows: the job against the other side, and second runs with other heads against the first."""
    subject = f"{job.network} {job.size}×{job.size}"
    what = {"network": job.network, "size": job.size, "engine": job.engine, "epochs": work.epochs}
    folder = str(pictures(500, 375, work.count))
    count = job.many if work.many is None else work.many
    many = str(pictures(500, 375, count))
    with Process("bench.frozen", {**what, "folder": folder, "many": many, "ours": True}, threads) as ours:
        first, again = ours.ask("first"), ours.ask("second")
        ours.ask("fill")
        seconds = {head: ours.ask(f"second of many, {head}") for head in AGAIN}
    with Process("bench.frozen", {**what, "folder": folder, "ours": False}, threads) as others:
        other = [others.ask("epoch") for _ in range(work.timed)]
    hand = Sample(*(start + statistics.mean(rest) * (work.epochs - 1) for start, *rest in zip(*other, strict=True)))
    yield _row(subject, job.engine, job.against, first, hand, job.aim, work.count, work.epochs)
    for head, aim in AGAIN.items():
        second = seconds[head]
        rest = [count / work.count * (a - b) for a, b in zip(first, again, strict=True)]
        whole = Sample(*(a + b for a, b in zip(second, rest, strict=True)))
        name = f"{subject}, second run on {count:,} images, {head}"
        yield _row(name, job.engine, "PortNet's first run", second, whole, aim, count, work.epochs)


def _row(
    subject: str, engine: str, against: str, ours: Sample, theirs: Sample, aim: float | None, count: int, epochs: int
) -> Row:
    return Row(
        "frozen",
        subject,
        engine,
        against,
        ours=ours.wall * 1e3,
        theirs=theirs.wall * 1e3,
        score=ours.wall / theirs.wall,
        aim=aim,
        rounds=1,
        # of each side's own process: a loader's worker processes are not in it
        extra={"processor ms": ours.cpu * 1e3, "processor ms of the other": theirs.cpu * 1e3},
        context={"images": count, "epochs": epochs, "batch": BATCH},
    )


def _actions(
    *, network: str, size: int, engine: str, folder: str, epochs: int, ours: bool, many: str = ""
) -> dict[str, Action]:
    if ours:
        return _ours(network, size, engine, folder, epochs, many)
    return {"epoch": {"keras": _keras, "torch": _torch, "gluon": _gluon}[engine](size, folder)}


def _ours(network: str, size: int, engine: str, folder: str, epochs: int, many: str) -> dict[str, Action]:
    import portnet
    from bench.networks import calibrated
    from portnet.finetuning.prefix import keep

    os.environ["PORTNET_CACHE"] = tempfile.mkdtemp(prefix="portnet-bench-")
    backbone = portnet.Backbone.of(calibrated(portnet.engine(engine), network, batch_of(8, size)))
    deep = network == "resnet50"
    rule = {"optimizer": "adam", "lr": 1e-3} if deep else {"optimizer": "sgd", "lr": 0.002}

    def run(images: str, head: Any, epochs: int = epochs) -> Any:
        return portnet.finetune(
            images,
            backbone=backbone,
            backend=engine,
            head=head,
            freeze="backbone",
            epochs=epochs,
            batch_size=BATCH,
            val=0,
            progress=False,
            **rule,
        )

    def fill() -> None:
        real, keep.run_prefix = keep.run_prefix, _few
        try:
            run(many, other["head of 256"], epochs=1)
        finally:
            keep.run_prefix = real

    first = portnet.Head.mlp((512,)) if deep else portnet.Head.linear()
    other = {"linear head": portnet.Head.linear(), "head of 256": portnet.Head.mlp((256,), dropout=0.2)}
    return {
        "first": lambda: run(folder, first),
        "second": lambda: run(folder, first),
        "fill": fill,
        **{f"second of many, {name}": lambda head=head: run(many, head) for name, head in other.items()},
    }


def _few(session: Any, images: Any, preprocessing: Any, append: Any, done: Any, start: int) -> None:
    """Do as `run_prefix`, but give the activations of the first few images for all of them."""
    from portnet.finetuning.prefix.compute import BATCH_SIZE
    from portnet.graph.metadata import Preprocessing

    assert isinstance(preprocessing, Preprocessing)
    parts = session.activations(batch_of(BATCH_SIZE, preprocessing.size[0]).x, BATCH_SIZE)
    for row in range(start, images.rows, BATCH_SIZE):
        append([part[: images.rows - row] for part in parts])


def _keras(size: int, folder: str) -> Action:
    import keras
    import numpy as np

    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=BATCH, seed=0, verbose=False
    )
    prepare = keras.applications.resnet50.preprocess_input
    data = images.map(lambda x, y: (prepare(x), y))
    base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(size, size, 3))
    norms = [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    base(np.concatenate([prepare(x.numpy()) for x, _ in images.take(1)]), training=True)
    base.trainable = False
    layers = keras.layers
    head = [layers.GlobalAveragePooling2D(), layers.BatchNormalization(), layers.Dropout(0.5)]
    head += [layers.Dense(512, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5)]
    network = keras.Sequential([base, *head, layers.Dense(2, activation="softmax")])
    network.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return lambda: network.fit(data, epochs=1, verbose=0)


def _torch(size: int, folder: str) -> Action:
    import torch
    import torch.nn.functional as F
    from torch import nn

    from bench.references.torch import define_missing_operators

    define_missing_operators()
    from torchvision import datasets, models, transforms

    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), normalise])
    data = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, steps), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    base = models.resnet50(weights=None)
    norms = [module for module in base.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        base.train()(torch.stack([data.dataset[i][0] for i in range(8)]))
    layers = [nn.BatchNorm1d(2048), nn.Dropout(0.5), nn.Linear(2048, 512), nn.ReLU()]
    base.requires_grad_(False)
    base.fc = nn.Identity()
    base.eval()
    head = nn.Sequential(*layers, nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, 2))
    optimizer = torch.optim.Adam(head.parameters())

    def run() -> None:
        for x, y in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(head(base(x)), y)
            loss.backward()
            optimizer.step()
            loss.item()

    return run


def _gluon(size: int, folder: str) -> Action:
    from bench.references.gluon import calibrate, mx, vision

    transforms = mx.gluon.data.vision.transforms
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = transforms.Compose([transforms.Resize(size), transforms.ToTensor(), normalise])
    images = mx.gluon.data.vision.ImageFolderDataset(folder).transform_first(steps)
    data = mx.gluon.data.DataLoader(images, BATCH, shuffle=True, num_workers=2, thread_pool=True)
    network = vision.resnet18_v2(classes=2)
    network.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    network(mx.nd.zeros((1, 3, size, size)))
    calibrate(network, next(iter(data))[0].as_in_context(mx.cpu()))
    network.features.collect_params().setattr("grad_req", "null")
    network.hybridize(static_alloc=True, static_shape=True)
    measure = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(network.output.collect_params(), "sgd", {"learning_rate": 0.002})

    def run() -> None:
        for x, y in data:
            x, y = x.as_in_context(mx.cpu()), y.as_in_context(mx.cpu())
            with mx.autograd.record():
                loss = measure(network(x), y)
            loss.backward()
            trainer.step(len(y))
            loss.mean().asscalar()

    return run


if __name__ == "__main__":
    serve(_actions(**json.loads(sys.argv[1])))
