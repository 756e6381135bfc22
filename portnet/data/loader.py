"""Batches of a `Dataset`, in an order that is a pure function of the seed and the epoch.

So any batch of any epoch can be asked for first, and that is all a resumed run needs: there is no
iterator state to save. A few threads and NumPy's seeded permutation do it; a loader library would be one more
dependency, with workers that are processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from portnet.data.augment import Augment
from portnet.data.balance import oversampled, oversampled_count
from portnet.data.dataset import Dataset
from portnet.data.decoders import choose
from portnet.data.images import Region
from portnet.data.preprocess import normalise, to_bytes
from portnet.data.rng import Purpose, generator
from portnet.data.threads import in_threads
from portnet.errors import DataError, InputError
from portnet.graph.metadata import Preprocessing

__all__ = ["CACHE_BYTES", "Batch", "Loader", "copies_of"]

CACHE_BYTES = 2**30
"""Memory that decoded images may take: 7,133 of 224 × 224 pixels."""

Batch = tuple[NDArray[np.float32], "NDArray[np.int64] | NDArray[np.float32]"]


class Loader:
    """Reads a dataset in batches, a few threads ahead of whoever uses them.

    At most ``workers + 1`` batches are in memory besides the one in use, and the cache: when all images,
    as uint8 of the network's input size, fit into ``cache_bytes``, each is decoded once and kept.

    Args:
        dataset: what to read.
        preprocessing: how an image becomes the network's input.
        batch_size: images in a batch; the last one of an epoch may be smaller.
        shuffle: a new order for each epoch; otherwise the dataset's own.
        seed: with the epoch it decides the order, and with epoch and image the augmentation.
        augment: random changes to each image, or None.
        oversample: each class comes as often as the largest; see `portnet.data.balance`.
        workers: threads that decode; by default one for each usable processor, at most eight.
        drop_last: leave out a last batch that is smaller.
        draft: decode large JPEGs at a fraction of their size; see `to_bytes`.
        cache_bytes: most memory for decoded images, though no more than a quarter of what is free; 0 keeps none.
        decoder: "pillow", "fast" or "auto"; see `portnet.data.decoders`.

    Raises:
        InputError: a batch size, seed or number of workers that is out of range, or no batch at all.
        MissingDependencyError: the fast decoder is asked for and not installed.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        augment: Augment | None = None,
        oversample: bool = False,
        workers: int | None = None,
        drop_last: bool = False,
        draft: bool = True,
        cache_bytes: int = CACHE_BYTES,
        decoder: str = "auto",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch size: got {batch_size}, expected 1 or more.")
        if workers is not None and workers < 1:
            raise InputError(f"workers: got {workers}, expected 1 or more.")
        self.dataset, self.preprocessing, self.batch_size = dataset, preprocessing, batch_size
        self.shuffle, self.seed, self.augment, self.oversample = shuffle, seed, augment, oversample
        self.count = oversampled_count(dataset.labels) if oversample else len(dataset)
        self.workers, self.drop_last, self.draft = workers, drop_last, draft
        self.decoder = choose(decoder)
        self._cache = _Cache(len(dataset), preprocessing.size, min(cache_bytes, _free_memory() // 4))
        if not len(self):
            raise InputError(f"no batch: got {len(dataset)} images, expected at least {batch_size}.")

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the dataset's indices in the order in which ``epoch`` reads them, int64 of shape (N,).

        With ``oversample`` N is larger than the dataset, and indices come several times.
        """
        labels = self.dataset.labels
        chosen = oversampled(labels, self.seed, epoch) if self.oversample else np.arange(len(labels), dtype=np.int64)
        if not self.shuffle:
            return chosen
        return chosen[generator(Purpose.ORDER, self.seed, epoch).permutation(len(chosen))]

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` (counted from 0), from ``start_batch`` on.

        Yields:
            (x, y): float32 of (N, C, H, W) and int64 of (N,), or float32 of (N, classes) where images are mixed.

        Raises:
            DataError: an image that cannot be read; the message names it.
            InputError: ``start_batch`` is not in 0 to ``len(self)``.
        """
        if not 0 <= start_batch <= len(self):
            raise InputError(f"start batch: got {start_batch}, expected 0 to {len(self)}.")
        order = self.order(epoch)
        copies = copies_of(order)
        return in_threads(
            lambda batch: self._batch(order, copies, epoch, batch), range(start_batch, len(self)), self.workers
        )

    def _batch(self, order: NDArray[np.int64], copies: NDArray[np.int64], epoch: int, batch: int) -> Batch:
        chosen = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        keys = zip(order[chosen].tolist(), copies[chosen].tolist(), strict=True)
        # (N, H, W, 3), but channel by channel in memory: what is copied there is laid out in the same way
        pixels = np.empty((len(order[chosen]), 3, *self.preprocessing.size), np.uint8).transpose(0, 2, 3, 1)
        for place, (index, copy) in enumerate(keys):
            pixels[place] = self._pixels(epoch, index, copy)
        x, y = normalise(pixels, self.preprocessing), self.dataset.labels[order[chosen]]
        if self.augment is None or not self.augment.mixes:
            return x, y
        return self.augment.mix(x, y, len(self.dataset.classes), generator(Purpose.MIX, self.seed, epoch, batch))

    def _pixels(self, epoch: int, index: int, copy: int) -> NDArray[np.uint8]:
        """Return one image, uint8 of (H, W, 3), augmented for ``epoch`` and the ``copy`` of it there."""
        if self.augment is None:
            return self._decoded(index)
        # the first copy's key is that of an image which comes once
        key = (self.seed, epoch, index, copy) if copy else (self.seed, epoch, index)
        pixels = self._decoded(index) if self.augment.crop is None else self._cropped(self.augment, index, key)
        return self.augment(pixels, generator(Purpose.AUGMENT, *key))

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        pixels = self._cache.get(index)
        if pixels is None:
            pixels = self._read(index)
            self._cache.put(index, pixels)
        return pixels

    def _cropped(self, augment: Augment, index: int, key: tuple[int, ...]) -> NDArray[np.uint8]:
        """Cut from the whole image, not from what the network usually sees, so nothing can be kept."""
        return self._read(
            index, region=lambda width, height: augment.region(width, height, generator(Purpose.CROP, *key))
        )

    def _read(self, index: int, region: Region | None = None) -> NDArray[np.uint8]:
        item = self.dataset.items[index]
        try:
            return to_bytes(
                item,
                self.preprocessing,
                draft=self.draft,
                decoder=self.decoder,
                region=region,
                planar=self.augment is None,
            )
        except DataError as error:
            if isinstance(item, (str, os.PathLike)) and not os.path.exists(item):
                raise  # it has gone since the dataset was read; to begin anew would not find it either
            raise DataError(
                f"{error} Remove it, or have such images left out with on_error='skip' (--on-error skip)."
            ) from error


def copies_of(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each index has come before, so that copies of an image are augmented each in its own way."""
    sorting = np.argsort(order, kind="stable")
    _, starts, counts = np.unique(order[sorting], return_index=True, return_counts=True)
    copies = np.empty_like(order)
    copies[sorting] = np.arange(len(order)) - np.repeat(starts, counts)
    return copies


def _free_memory() -> int:
    """Return bytes of memory that can be had without swapping, as far as the system tells (Linux does)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 4 * CACHE_BYTES
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else 4 * CACHE_BYTES


class _Cache:
    """Decoded images by index, all of them or, if they do not fit into ``limit`` bytes, none."""

    def __init__(self, count: int, size: tuple[int, int], limit: int) -> None:
        self._fits = count * size[0] * size[1] * 3 <= limit
        self._images: dict[int, NDArray[np.uint8]] = {}

    def get(self, index: int) -> NDArray[np.uint8] | None:
        return self._images.get(index)

    def put(self, index: int, pixels: NDArray[np.uint8]) -> None:
        if self._fits:
            self._images[index] = pixels
