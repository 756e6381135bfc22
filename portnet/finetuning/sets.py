"""The images of a run: what it trains on, what it is validated on, and what it has never seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from portnet.data.dataset import Dataset, DatasetSource, load_dataset, split
from portnet.data.decoders import Decoder, choose_again, describe
from portnet.data.folders import find_splits, split_name
from portnet.data.images import naming
from portnet.data.lazy import LazyImage
from portnet.data.rng import Purpose
from portnet.data.skipped import Skipped, describe_skipped
from portnet.errors import DataError, InputError
from portnet.finetuning import duplicates
from portnet.finetuning.settings import Settings

__all__ = ["Sets", "prepare_data", "source_of"]

# folders larger than this are recorded by their names and sizes, not read through once more
DIGEST_LIMIT = 1 << 30


@dataclass(frozen=True)
class Sets:
    """The images of one run, with the same classes.

    Attributes:
        train: images to train on.
        val: images held out for validation, or None.
        test: images for the evaluation at the end, or None.
        decoder: who decodes them.
        decoders: what the decoder is made of, in words; of a resumed run all that there have been, the last one in use.
    """

    train: Dataset
    val: Dataset | None = None
    test: Dataset | None = None
    decoder: Decoder = "pillow"
    decoders: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Images that were left out of any of the sets, each once."""
        parts = [part for part in (self.train, self.val, self.test) if part is not None]
        return tuple(dict.fromkeys(item for part in parts for item in part.skipped))

    @property
    def duplicates(self) -> list[str]:
        """What is to be said of images that are there more than once; nothing before `record` has read them all."""
        return duplicates.notes(self.train, [part for part in (self.val, self.test) if part is not None])

    def describe(self, settings: Settings) -> str:
        """Return counts for the first line of a run."""
        counts = self.train.counts()
        least, most = min(counts.values()), max(counts.values())
        per_class = f"{least:,} images a class" if least == most else f"{least:,}–{most:,} images a class"
        held_out = "".join(
            f", {len(part):,} {use}"
            for part, use in ((self.val, "for validation"), (self.test, "for the test"))
            if part
        )
        drawn = f", {max(counts.values()):,} of each class drawn in an epoch" if settings.balance else ""
        return f"{len(counts)} classes, {len(self.train):,} images to train on ({per_class}){held_out}{drawn}"

    def describe_skipped(self) -> list[str]:
        """Return a line for each image that was left out, of many for the first ones."""
        return describe_skipped(self.skipped, "; run.json names them all")

    @property
    def warning(self) -> str:
        """What is to be said of another decoder than the run began with, or ""."""
        if len(self.decoders) < 2:
            return ""
        return (
            f"images are decoded by {self.decoders[-1]} now; the run began with {self.decoders[0]}. Pixels may differ "
            "by a level, so it will not end bit-identical to an unstopped one"
        )

    def record(self, source: str | dict[str, str] | None, settings: Settings) -> dict[str, Any]:
        """Return where the images came from, how many of each class, and a digest of what they are."""
        parts = [part for part in (self.train, self.val, self.test) if part is not None]
        weights = settings.loss_weights(self.train.counts())
        return {
            "source": source,
            "classes": list(self.train.classes),
            "train": self.train.counts(),
            "val": None if self.val is None else self.val.counts(),
            "test": None if self.test is None else self.test.counts(),
            "class_weights": None if weights is None else list(weights),
            "decoder": list(self.decoders),
            "skipped": [list(item) for item in self.skipped],
            "digest": [data_digest(part) for part in parts],
        }


def prepare_data(data: DatasetSource, settings: Settings, began: Sequence[str] = ()) -> Sets:
    """Return the sets: explicit ones where there are some, else shares of each class, drawn by the seed.

    The test images are drawn first, ``settings.test`` of each class; then those for validation, ``settings.val`` of
    what remains.

    Args:
        data: as for `portnet.finetune`.
        settings: the run's.
        began: ``decoders`` of the run that goes on, so that the same one is used if it is there.

    Raises:
        InputError: a share for the test and explicit test images.
        MissingDependencyError: a decoder that is not installed is asked for.
        DataError: images or classes that cannot be used.
    """
    decoder = choose_again(settings.decoder, began[0] if began else "")
    decoders = (*began, *({describe(decoder)} - set(began[-1:])))
    return replace(_sets(data, settings), decoder=decoder, decoders=decoders)


def _sets(data: DatasetSource, settings: Settings) -> Sets:
    parts = _explicit(data)
    train = _load(parts["train"] if parts else data, settings, None)
    if "test" in parts and settings.test:
        raise InputError(f"test: got {settings.test}, but the data brings its own test images. Leave test out.")
    test = _load(parts["test"], settings, train.classes) if "test" in parts else None
    if settings.test:
        train, test = _held_out(train, "test", settings.test, settings.seed, Purpose.TEST_SPLIT)
    if "val" in parts:
        return Sets(train, _load(parts["val"], settings, train.classes), test)
    if not settings.val:
        return Sets(train, None, test)
    train, val = _held_out(train, "val", settings.val, settings.seed, Purpose.SPLIT)
    return Sets(train, val, test)


def _held_out(images: Dataset, name: str, share: float, seed: int, purpose: Purpose) -> tuple[Dataset, Dataset]:
    """Return (train, held out); a share that holds nothing out is refused."""
    train, held_out = split(images, share, seed, purpose)
    if not len(held_out):
        raise DataError(
            f"{name}: got {share:g} of classes with one image each, which holds none out. Give more images, or "
            f"{name}=0 and, if need be, {name} images of their own."
        )
    return train, held_out


def source_of(data: DatasetSource) -> str | dict[str, str] | None:
    """Return what to load the images from again: a folder, or the folder of each set; None for images from memory."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    if isinstance(data, Mapping) and data and all(isinstance(part, (str, os.PathLike)) for part in data.values()):
        return {str(name): os.fspath(part) for name, part in data.items()}
    return None


def data_digest(dataset: Dataset) -> str | None:
    """SHA-256 of the images and labels; of more than `DIGEST_LIMIT` bytes of files, of their names, sizes and labels.

    None for so many images of another library, which have neither. What another library has to decode is counted as
    large as the first such image is.
    """
    paths = [Path(item) for item in dataset.items if isinstance(item, (str, os.PathLike))]
    decoded = [item for item in dataset.items if isinstance(item, LazyImage) and not item.is_encoded]
    sizes = [_size(path) for path in paths]
    size = sum(sizes)
    if decoded:
        with naming(decoded[0]):
            size += len(decoded) * np.asarray(decoded[0].fetch()).nbytes
    if size <= DIGEST_LIMIT:
        return dataset.digest()
    if len(paths) < len(dataset.items):
        return None
    seen = (
        dataset.classes,
        dataset.labels.tolist(),
        [(*path.parts[-2:], size) for path, size in zip(paths, sizes, strict=True)],
    )
    return f"names and sizes: {hashlib.sha256(repr(seen).encode('utf-8', 'surrogateescape')).hexdigest()}"


def _size(path: Path) -> int:
    with naming(path):
        return path.stat().st_size


def _explicit(data: DatasetSource) -> dict[str, Any]:
    """Return a folder's, or a mapping's, own "train" and, where they exist, "val" and "test"."""
    if isinstance(data, (str, os.PathLike)):
        return dict(find_splits(data)) if os.path.isdir(data) else {}
    if not isinstance(data, Mapping) or set(data) == {"images", "labels"}:
        return {}
    parts = {split_name(name): part for name, part in data.items()}
    if "train" not in parts or None in parts or len(parts) != len(data):
        raise InputError(
            f"got a mapping with {', '.join(map(repr, data))}, expected 'train' and perhaps 'val' and 'test', "
            "or 'images' and 'labels'."
        )
    return {str(name): part for name, part in parts.items()}


def _load(source: Any, settings: Settings, classes: tuple[str, ...] | None) -> Dataset:
    return load_dataset(source, on_error=settings.on_error, rename=settings.rename, classes=classes)
