"""``torch.utils.data``: map-style datasets asked item by item, streams read through once, loaders for their dataset."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from portnet.data.frameworks.items import Collected, Labelled, class_of, pair_of, pixels_of
from portnet.data.lazy import LazyImage
from portnet.errors import InputError

__all__ = ["labelled"]

_REMEDY = "Give the dataset without its transform (dataset.transform = None), or with one that ends in uint8."


def labelled(source: Any) -> Labelled:
    """Return what a ``Dataset`` or a ``DataLoader`` holds; see `portnet.data.frameworks`."""
    if _is_a(source, "DataLoader"):
        return _of_loader(source)
    if _is_a(source, "Subset"):
        return _chosen(_inner(source.dataset), source.indices)
    if _is_a(source, "IterableDataset") or not hasattr(source, "__len__"):
        return _streamed(source)
    if not len(source):
        raise InputError(f"{_name(source)} is empty: expected images of at least two classes.")
    classes = getattr(source, "classes", None)
    names = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else None
    if _is_a(source, "DatasetFolder") and _is_untouched(source):
        paths, numbers = zip(*source.samples, strict=True)
        return Labelled(paths, numbers, names)
    return Labelled(_images(source), _labels(source), names)


def _is_a(source: Any, name: str) -> bool:
    return any(
        cls.__name__ == name and cls.__module__.startswith(("torch.", "torchvision.")) for cls in type(source).__mro__
    )


def _name(source: Any) -> str:
    return f"the {type(source).__name__}"


def _is_untouched(source: Any) -> bool:
    """Whether nothing is done to images and labels once a file is read."""
    return all(getattr(source, name, None) is None for name in ("transform", "target_transform", "transforms"))


def _of_loader(loader: Any) -> Labelled:
    if _is_a(loader.dataset, "IterableDataset"):
        return _inner(loader.dataset)
    sampler = _sampler(loader)
    if _is_a(sampler, "SubsetRandomSampler"):
        return _chosen(_inner(loader.dataset), sampler.indices)
    is_known = _is_a(sampler, "SequentialSampler") or (_is_a(sampler, "RandomSampler") and not sampler.replacement)
    if not is_known or len(sampler) != len(loader.dataset):
        raise InputError(
            f"the DataLoader draws with a {type(sampler).__name__}: what it leaves out is not known. Give the dataset, "
            "or a torch.utils.data.Subset of it; balance='oversample' and class_weights='balanced' even out classes."
        )
    return _inner(loader.dataset)


def _sampler(loader: Any) -> Any:
    """Return what chooses the items: a batch sampler of somebody's own, or the sampler that batches are made of."""
    batches = loader.batch_sampler
    if batches is None:
        return loader.sampler
    return batches.sampler if type(batches).__name__ == "BatchSampler" and _is_a(batches, "BatchSampler") else batches


def _inner(dataset: Any) -> Labelled:
    """Return what the dataset inside another one or inside a loader holds: anything with items, Hugging Face's too."""
    from portnet.data import frameworks

    return frameworks.labelled(dataset) or labelled(dataset)


def _chosen(whole: Labelled, indices: Any) -> Labelled:
    chosen = [int(i) for i in indices]
    labels: Any = [whole.labels[i] for i in chosen]
    return Labelled([whole.images[i] for i in chosen], labels, whole.classes)


def _images(source: Any) -> list[LazyImage]:
    # many are not made for threads: files that are kept open, counters
    what, lock = _name(source), threading.Lock()

    def fetch(index: int) -> Any:
        with lock:
            image, _ = pair_of(source[index], what)
        return pixels_of(image, what, _REMEDY)

    fetch(0)  # what is wrong with every image is found before anything is trained
    return [LazyImage(f"item {i}", lambda i=i: fetch(i)) for i in range(len(source))]  # type: ignore[misc]


def _labels(source: Any) -> list[Any]:
    """Return the label of each item: those that a dataset keeps, or else those of its items, read one by one."""
    for name in ("targets", "labels"):
        kept = getattr(source, name, None)
        if kept is not None and getattr(source, "target_transform", None) is None and len(kept) == len(source):
            return [class_of(label, _name(source)) for label in np.asarray(kept)]
    return [class_of(pair_of(source[i], _name(source))[1], _name(source)) for i in range(len(source))]


def _streamed(source: Any) -> Labelled:
    kept = Collected(_name(source), "Give a part of it, or a folder of its files.")
    for item in source:
        image, label = pair_of(item, kept.what)
        pixels = np.asarray(pixels_of(image, kept.what, _REMEDY))
        kept.add(pixels, class_of(label, kept.what), pixels.nbytes)
    return Labelled(kept.images, kept.labels)
