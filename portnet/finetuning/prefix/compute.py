"""Running the prefix: images through it once, decoded by threads while it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from portnet.data.augment import Augment
from portnet.data.dataset import Dataset
from portnet.data.decoders import Decoder
from portnet.data.loader import CACHE_BYTES, Loader
from portnet.errors import InputError, ModelError
from portnet.finetuning.prefix.where import Computer
from portnet.graph.metadata import Preprocessing

__all__ = ["BATCH_SIZE", "Images", "run_prefix"]

# images at a time. A constant, though the best differs a little from network to network: with another batch a
# matrix product may round another way, and a resumed run would not end bit-identical. Of the processor time of 8 images
# at a time, 16 take 0.96 in ResNet-50 and 0.92 in ResNet-18 v2, 32 take 0.95 and 0.89 at twice the memory
BATCH_SIZE = 16


@dataclass(frozen=True)
class Images:
    """Images that go through the prefix together.

    Attributes:
        dataset: the images, in the order in which their activations are kept.
        augment: random changes, or None.
        views: how often each is changed another way; 1 without augmentation.
        seed: of the changes.
        decoder: who decodes; see `portnet.data.decoders`.
    """

    dataset: Dataset
    augment: Augment | None = None
    views: int = 1
    seed: int = 0
    decoder: Decoder = "pillow"

    @property
    def rows(self) -> int:
        """Rows of activations: all images in their first view, then all in their second, and so on."""
        return len(self.dataset) * self.views


def run_prefix(
    computer: Computer,
    images: Images,
    preprocessing: Preprocessing,
    append: Callable[[Sequence[np.ndarray]], None],
    done: Callable[[int], None],
    start: int = 0,
) -> None:
    """Run a prefix once over images and hand over its activations, batch by batch.

    Args:
        computer: the prefix, ready to run.
        images: what to run.
        preprocessing: how an image becomes the prefix's input.
        append: takes the next rows, one float32 array a tensor.
        done: called with the count of rows so far.
        start: rows that are there already. The others come from the same batches all the same.

    Raises:
        DataError: an image that cannot be read.
        ModelError: the activations are not numbers of the expected kind.
    """
    loader = Loader(
        images.dataset,
        preprocessing,
        BATCH_SIZE,
        shuffle=False,
        seed=images.seed,
        augment=images.augment,
        cache_bytes=CACHE_BYTES if images.views > 1 else 0,
        decoder=images.decoder,
    )
    rows, (first_view, place) = start, divmod(start, len(images.dataset))
    for view in range(first_view, images.views):
        batch, known = divmod(place if view == first_view else 0, BATCH_SIZE)
        for x, _ in loader.epoch(view, batch):
            parts = [part[known:] for part in computer.activations(x, BATCH_SIZE)]
            known = 0
            append(parts)
            rows += len(parts[0])
            done(rows)


def to_dtype(parts: Sequence[np.ndarray], dtype: str) -> list[np.ndarray]:
    """Return activations in the type they are kept in.

    Raises:
        InputError: a number that float16 cannot hold.
        ModelError: activations that are not float32.
    """
    for part in parts:
        if part.dtype != np.float32:
            raise ModelError(f"cache: activations of the frozen part are {part.dtype}, expected float32")
    if dtype == "float32":
        return list(parts)
    with np.errstate(over="ignore"):
        halves = [part.astype(np.float16) for part in parts]
    for part, half in zip(parts, halves, strict=True):
        if not np.isfinite(half).all() and np.isfinite(part).all():
            raise InputError(
                f"cache: float16 holds numbers up to 65,504, got {np.abs(part).max():,.0f} in the frozen part's "
                "activations. Use cache_dtype='float32'."
            )
    return halves
