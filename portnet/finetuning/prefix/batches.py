"""Batches of kept activations in place of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from portnet.adapter import Inputs, as_inputs
from portnet.data.loader import Loader, copies_of

__all__ = ["CachedBatches"]

# bytes of activations, and steps, that are handed over at once: more would leave the processor's cache and save nothing
AT_ONCE, MOST_STEPS = 1 << 22, 32


class CachedBatches:
    """The batches of a `Loader`, in its own order, with a prefix's activations in place of the images.

    Rows are gathered into one piece of memory that every batch reuses: what is given is good until the next is asked
    for. To copy rows takes a fraction of the time that new memory takes to be mapped.

    Args:
        loader: tells order and labels.
        arrays: activations, one array a tensor: (rows, ...) float32 or float16, in memory or mapped.
        rows: of each image of the loader's dataset, its row in its first view.
        views: views of each image; epoch e reads view e mod ``views``, and the next ones where oversampling brings an
            image more than once.
        stride: rows from one view to the next.
    """

    def __init__(
        self, loader: Loader, arrays: Sequence[np.ndarray], rows: np.ndarray, *, views: int = 1, stride: int = 0
    ) -> None:
        self._loader, self._arrays, self._rows = loader, list(arrays), rows
        self._views, self._stride = views, stride
        self._buffers: list[np.ndarray] = []
        self._latest: tuple[int, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._loader)

    @property
    def steps_at_once(self) -> int:
        """Steps that are worth taking in one call of an engine: 1 unless activations are small."""
        numbers = sum(math.prod(array.shape[1:]) for array in self._arrays) * self._loader.batch_size
        return max(1, min(MOST_STEPS, AT_ONCE // max(1, 4 * numbers)))

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[tuple[Inputs, np.ndarray]]:
        """Yield (activations, labels) of an epoch from a batch on; float32, one array a tensor."""
        size = self._loader.batch_size
        rows, labels = self._plan(epoch)
        for first in range(start_batch * size, len(self) * size, size):
            yield self._gather(rows[first : first + size]), labels[first : first + size]

    def several(self, epoch: int, start_batch: int, most: int) -> tuple[Inputs, np.ndarray]:
        """Return up to ``most`` batches from ``start_batch`` on, stacked: (K, N, ...) and (K, N).

        They are fewer where the epoch ends, or comes to its last, smaller batch, which is returned by itself.
        """
        size = self._loader.batch_size
        rows, labels = self._plan(epoch)
        first = start_batch * size
        whole = (len(rows) - first) // size
        end = first + min(most, whole) * size if whole else len(rows)
        count = max(1, (end - first) // size)
        parts = tuple(part.reshape(count, -1, *part.shape[1:]) for part in as_inputs(self._gather(rows[first:end])))
        return parts[0] if len(parts) == 1 else parts, labels[first:end].reshape(count, -1)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and labels in the order of an epoch."""
        if self._latest is None or self._latest[0] != epoch:
            order = self._loader.order(epoch)
            views = (epoch + copies_of(order)) % self._views if self._views > 1 else 0
            self._latest = epoch, self._rows[order] + views * self._stride, self._loader.dataset.labels[order]
        return self._latest[1:]

    def _gather(self, rows: np.ndarray) -> Inputs:
        if not self._buffers or len(self._buffers[0]) < len(rows):
            self._buffers = [np.empty((len(rows), *array.shape[1:]), array.dtype) for array in self._arrays]
        parts = tuple(buffer[: len(rows)] for buffer in self._buffers)
        for array, part in zip(self._arrays, parts, strict=True):
            # rows are in range; any other mode would copy through a second buffer
            np.take(array, rows, axis=0, out=part, mode="clip")
        parts = tuple(part.astype(np.float32, copy=False) for part in parts)
        return parts[0] if len(parts) == 1 else parts
