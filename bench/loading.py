"""Images from files to batches of the network's input: PortNet's `Loader` against what one would use without it.

Each side reads one epoch of the same folder in a random order, in batches, stretched to 224 × 224, with two workers:
torchvision's ImageFolder in a DataLoader of two processes, that stay alive; Keras's image_dataset_from_directory with
prefetching. PortNet and torchvision also normalise; both resize with antialiasing, Keras without.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from bench.pictures import pictures
from bench.row import Row
from bench.side import Process, serve
from bench.timing import Budget, interleaved

__all__ = ["KINDS", "PEERS", "rows"]

SIZE, WORKERS = 224, 2


@dataclass(frozen=True)
class Kind:
    """Images of a size, as many as an epoch has, and the largest ratio of times that is wanted."""

    width: int
    height: int
    count: int
    batch: int
    aim: float


# 1.8 and 2.5 times as fast as either peer
KINDS = {
    "500 × 375": Kind(500, 375, 256, 32, 0.556),
    "4000 × 3000": Kind(4000, 3000, 16, 8, 0.4),
}
PEERS = {"torchvision": "torch", "Keras": "keras"}
NAMES = {"torchvision": "torchvision ImageFolder, DataLoader", "Keras": "Keras image_dataset_from_directory"}


def rows(kind: str, peer: str, budget: Budget) -> list[Row]:
    """Return milliseconds an image: of an epoch that decodes, and of a later one in which PortNet decodes no more."""
    what = KINDS[kind]
    folder = str(pictures(what.width, what.height, what.count))
    job = {"folder": folder, "batch": what.batch}
    with (
        Process("bench.loading", {"who": "PortNet", **job}) as ours,
        Process("bench.loading", {"who": peer, **job}) as theirs,
    ):
        found = []
        for action, when, aim in (("decoded", "", what.aim), ("kept", ", later epochs", None)):
            times = interleaved(lambda action=action: ours.ask(action), lambda: theirs.ask("decoded"), budget)
            row = Row("loading", f"JPEG of {kind}{when}", against=NAMES[peer], aim=aim, **times.fields)
            found.append(_of_one_image(row, what))
    return found


def _of_one_image(row: Row, what: Kind) -> Row:
    assert row.ours is not None
    assert row.theirs is not None
    context = {"to": f"{SIZE}×{SIZE}", "workers": WORKERS}
    rates = {"images/s": what.count * 1e3 / row.ours, "images/s of the other": what.count * 1e3 / row.theirs}
    # of torchvision's own process alone: its workers are others
    processor = {name: value / what.count for name, value in (row.extra or {}).items()}
    return replace(
        row, ours=row.ours / what.count, theirs=row.theirs / what.count, context=context, extra=processor | rates
    )


def _portnet(folder: str, batch: int) -> dict[str, Callable[[], Any]]:
    from portnet.data import Loader, load_dataset
    from portnet.graph.metadata import Preprocessing

    dataset, preprocessing = load_dataset(folder), Preprocessing(size=(SIZE, SIZE), resize=None)
    loaders = {
        name: Loader(dataset, preprocessing, batch, shuffle=True, seed=0, workers=WORKERS, **options)
        for name, options in (("decoded", {"cache_bytes": 0}), ("kept", {}))
    }
    return {name: lambda loader=loader: _drain(loader.epoch(0)) for name, loader in loaders.items()}


def _torchvision(folder: str, batch: int) -> dict[str, Callable[[], Any]]:
    from bench.references.torch import define_missing_operators

    define_missing_operators()
    import torch
    from torchvision import datasets, transforms

    steps = [
        transforms.Resize((SIZE, SIZE)),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    dataset = datasets.ImageFolder(folder, transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    return {"decoded": lambda: _drain(loader)}


def _keras(folder: str, batch: int) -> dict[str, Callable[[], Any]]:
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=batch, shuffle=True, seed=0, verbose=False
    ).prefetch(tf.data.AUTOTUNE)
    return {"decoded": lambda: _drain(dataset)}


def _drain(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


SIDES = {"PortNet": _portnet, "torchvision": _torchvision, "Keras": _keras}

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    serve(SIDES[job.pop("who")](**job))
