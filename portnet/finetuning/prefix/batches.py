"""Batches of kept activations in place of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from portnet.adapter import Inputs
from portnet.data.loader import Loader, copies_of

__all__ = ["CachedBatches"]


class CachedBatches:
    """The batches of a `Loader`, in its own order, with a prefix's activations in place of the images.

    Rows are gathered into one piece of memory that every batch of the size reuses: what is yielded is good until the
    next is asked for. To copy rows takes a fraction of the time that new memory takes to be mapped.

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
        self._buffers: dict[int, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[tuple[Inputs, np.ndarray]]:
        """Yield (activations, labels) of an epoch from a batch on; float32, one array a tensor."""
        order, size = self._loader.order(epoch), self._loader.batch_size
        views = (epoch + copies_of(order)) % self._views if self._views > 1 else 0
        rows = self._rows[order] + views * self._stride
        labels = self._loader.dataset.labels[order]
        for first in range(start_batch * size, len(self) * size, size):
            yield self._gather(rows[first : first + size]), labels[first : first + size]

    def _gather(self, rows: np.ndarray) -> Inputs:
        buffers = self._buffers.get(len(rows))
        if buffers is None:
            buffers = [np.empty((len(rows), *array.shape[1:]), array.dtype) for array in self._arrays]
            self._buffers[len(rows)] = buffers
        for array, buffer in zip(self._arrays, buffers, strict=True):
            # rows are in range; any other mode would copy through a second buffer
            np.take(array, rows, axis=0, out=buffer, mode="clip")
        parts = tuple(buffer.astype(np.float32, copy=False) for buffer in buffers)
        return parts[0] if len(parts) == 1 else parts
