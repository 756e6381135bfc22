"""A set of labelled images: where each one is, and which class it belongs to.

A `Dataset` holds paths, not pixels, so it may be larger than memory; the `Loader` reads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from portnet.data.folders import class_folders, find_images, stray_images
from portnet.data.frameworks import Labelled, labelled
from portnet.data.images import ImageSource, check_header, naming, open_image
from portnet.data.labels import Names
from portnet.data.lazy import LazyImage
from portnet.data.rng import Purpose, generator
from portnet.data.skipped import Skipped
from portnet.data.threads import in_threads
from portnet.errors import DataError, InputError, UnknownNameError

__all__ = ["Dataset", "DatasetSource", "Skipped", "load_dataset", "name_of", "split"]

OnError: TypeAlias = Literal["fail", "skip"]
# images that a thread reads the headers or the bytes of before it hands over
AT_ONCE = 16

DatasetSource: TypeAlias = "str | os.PathLike[str] | Dataset | Sequence[Any] | Mapping[str, Any] | NDArray[Any]"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, in a fixed order. Built by `load_dataset`.

    Attributes:
        items: the images: paths, uint8 arrays or PIL images.
        labels: int64 of shape (N,): the class of each image, an index into ``classes``.
        classes: the class names, in the order of a network's logits.
        skipped: images that were left out, with the reason.
    """

    items: tuple[ImageSource, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def counts(self) -> dict[str, int]:
        """Return the number of images of each class, in the order of ``classes``."""
        numbers = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

    def subset(self, indices: ArrayLike) -> Dataset:
        """Return the images at ``indices``, in that order, with the same classes."""
        chosen = np.asarray(indices, np.int64)
        part = replace(self, items=tuple(self.items[i] for i in chosen), labels=self.labels[chosen])
        if self.knows_digests:
            part.know_digests(self.item_digests[i] for i in chosen)
        return part

    @property
    def knows_digests(self) -> bool:
        """Whether ``item_digests`` has been found already."""
        return "item_digests" in vars(self)

    def know_digests(self, digests: Iterable[bytes]) -> None:
        """Take ``item_digests`` from whoever has read the images already."""
        vars(self)["item_digests"] = tuple(digests)

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the classes, the labels and every image's own bytes, in order.

        File names and places do not enter, so it survives a move; it reads every file once.

        Raises:
            DataError: a file that cannot be read.
        """
        sha = hashlib.sha256(repr(self.classes).encode("utf-8", "surrogateescape") + self.labels.tobytes())
        for item_digest in self.item_digests:
            sha.update(item_digest)
        return sha.hexdigest()

    @cached_property
    def item_digests(self) -> tuple[bytes, ...]:
        """SHA-256 of each image's own bytes, in order; every file is read once, at the first call.

        Raises:
            DataError: a file that cannot be read.
        """
        return tuple(in_threads(_item_digest, self.items, at_once=AT_ONCE))


def load_dataset(
    source: DatasetSource,
    *,
    on_error: OnError = "fail",
    labels: Sequence[Any] | NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> Dataset:
    """Find the images in ``source`` and make sure that they can be trained or tested on.

    Args:
        source: a folder that holds one folder of images for each class, nested at will below it;
            or a list of (image, label) pairs; or (images, labels), {"images": ..., "labels": ...} or
            images alone with ``labels=``, where images is a uint8 array of (N, H, W) or (N, H, W, C) or a
            list of paths, and labels are class names or class numbers; or a dataset of Hugging Face's ``datasets``,
            a ``torch`` Dataset or DataLoader, or a ``tf.data.Dataset``, each read as `portnet.data.frameworks` says.
            A `Dataset` is returned as it is.
        on_error: "fail" reads every header now and raises for an image that is broken there; damage
            further in is raised when the image is read. "skip" decodes every image once, now,
            and leaves out those that fail, so that what remains is the same in every epoch.
        labels: the labels, when ``source`` is images alone.
        classes: the class names in the order of a network's logits, when they are fixed already, as for a
            test set. Then a class may be absent, but an unknown one is an error. By default the classes are
            the sorted names found, at least two, none empty.
        rename: other names for classes, {"n01514668": "chicken"}; several may get the same one, and are one class
            then. Names that are not there are an error, unless ``classes`` is given.

    Returns:
        A Dataset: classes sorted by name, images sorted by path within a class; lists and arrays keep their order.

    Raises:
        DataError: no such folder, a file, no class folder, one class only, an empty class, no readable
            image, an unreadable image, or labels that do not fit.
        UnknownNameError: a class that is not in ``classes``.
        InputError: ``on_error`` or ``source`` is of no known kind.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"on_error: got {on_error!r}, expected 'fail' or 'skip'.")
    if isinstance(source, Dataset):
        return source
    try:
        found = _find(source, labels, Names(classes, rename))
    except UnknownNameError as error:
        if error.kind != "class":
            raise
        hint = f"It is in {_describe(source)}."
        raise UnknownNameError("class", error.name, classes or (), hint) from error
    if not len(found):
        raise DataError(f"no image found in {_describe(source)}: expected images of at least two classes.")
    if classes is None:
        is_folder = isinstance(source, (str, os.PathLike))
        _check_classes(found, "image", " file that ends in .jpg, .png, .webp, .gif or .bmp" if is_folder else "")
    readable = _readable(found, on_error)
    if classes is None:
        _check_classes(readable, "readable image")
    return readable


def _find(source: DatasetSource, labels: Any, names: Names) -> Dataset:
    if isinstance(source, (str, os.PathLike)):
        return _from_folder(source, names)
    foreign = labelled(source)
    if foreign is not None:
        return _from_foreign(foreign, names)
    return _from_pairs(*_images_and_labels(source, labels), names)


def split(dataset: Dataset, fraction: float, seed: int, purpose: Purpose = Purpose.SPLIT) -> tuple[Dataset, Dataset]:
    """Split each class at random, ``fraction`` of it held out; return (train, held out).

    A class of n images gives round(n · fraction), but at least one, to each side if n ≥ 2; a single image stays in
    train. Which images are drawn depends on the purpose, the seed, the class number and n alone. Both parts keep
    the dataset's order.

    Raises:
        InputError: ``fraction`` is not between 0 and 1, or a negative seed.
    """
    if not 0 < fraction < 1:
        raise InputError(f"split: got fraction {fraction}, expected more than 0 and less than 1.")
    held_out = np.zeros(len(dataset), bool)
    for label in range(len(dataset.classes)):
        members = np.flatnonzero(dataset.labels == label)
        drawn = generator(purpose, seed, label).permutation(len(members))
        held_out[members[drawn[: _held_out_count(len(members), fraction)]]] = True
    return dataset.subset(np.flatnonzero(~held_out)), dataset.subset(np.flatnonzero(held_out))


def _held_out_count(n: int, fraction: float) -> int:
    return min(max(int(n * fraction + 0.5), 1), n - 1) if n >= 2 else 0


def _from_folder(folder: str | os.PathLike[str], names: Names) -> Dataset:
    folders = class_folders(folder)
    found_names = [path.name for path in folders]
    paths = [find_images(path) for path in folders]
    labels = [name for name, found in zip(found_names, paths, strict=True) for _ in found]
    encoded, known = names.encode(labels, found_names)
    stray = tuple(Skipped(path, "lies outside the class folders") for path in stray_images(folder))
    return Dataset(tuple(path for found in paths for path in found), encoded, known, stray)


def _from_foreign(foreign: Labelled, names: Names) -> Dataset:
    labels, found = foreign.named()
    encoded, known = names.encode(labels, found)
    return Dataset(tuple(foreign.images), encoded, known)


def _from_pairs(images: Iterable[Any], labels: Any, names: Names) -> Dataset:
    encoded, known = names.encode(labels)
    items = tuple(os.fspath(image) if isinstance(image, os.PathLike) else image for image in images)
    if len(items) != len(encoded):
        raise DataError(f"got {len(items)} images and {len(encoded)} labels, expected one label for each image.")
    return Dataset(items, encoded, known)


def _images_and_labels(source: Any, labels: Any) -> tuple[Any, Any]:
    """Take apart the ways to give images with labels that are not a folder."""
    if isinstance(source, Mapping):
        if set(source) != {"images", "labels"}:
            raise DataError(f"got a mapping with {sorted(map(str, source))}, expected 'images' and 'labels'.")
        return source["images"], source["labels"]
    if labels is not None:
        return source, labels
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray) and source[0].ndim > 2:
        return source
    if isinstance(source, (list, tuple)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in source):
        return [image for image, _ in source], [label for _, label in source]
    raise InputError(
        f"got {type(source).__name__} as data, expected a folder, a list of (path, label) pairs, images with labels=, "
        "or a dataset of Hugging Face, torch or tf.data."
    )


def _describe(source: Any) -> str:
    return repr(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else f"the given {type(source).__name__}"


def _check_classes(dataset: Dataset, what: str, kinds: str = "") -> None:
    counts = dataset.counts()
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise DataError(f"class {empty[0]!r} has no {what}: expected at least one{kinds}. Fill it or remove it.")
    if len(counts) < 2:
        raise DataError(f"one class only: got {dataset.classes[0]!r}, expected at least two.")


def _readable(dataset: Dataset, on_error: OnError) -> Dataset:
    """Check every image; raise for the first that cannot be read, or leave all such out."""
    check = check_header if on_error == "fail" else _check_pixels
    reasons = list(in_threads(partial(_failure, check), dataset.items, at_once=AT_ONCE))
    bad = [i for i, reason in enumerate(reasons) if reason]
    if not bad:
        return dataset
    if on_error == "fail":
        more = f" {len(bad)} of {len(dataset)} images cannot be read." if len(bad) > 1 else ""
        raise DataError(
            f"{reasons[bad[0]]}{more} Remove what cannot be read, or skip it with on_error='skip' (--on-error skip)."
        )
    skipped = tuple(Skipped(name_of(dataset.items[i]), reasons[i]) for i in bad)
    if len(bad) == len(dataset):
        raise DataError(f"no readable image among {len(dataset)}: {reasons[0]}")
    kept = dataset.subset(np.delete(np.arange(len(dataset)), bad))
    return replace(kept, skipped=dataset.skipped + skipped)


def _failure(check: Callable[[ImageSource], object], item: ImageSource) -> str:
    try:
        check(item)
    except DataError as error:
        return str(error)
    return ""


def _check_pixels(item: ImageSource) -> None:
    # the smallest DCT scale still reads all of a JPEG's data, at a fraction of the time
    open_image(item, shorter_side=1)


def name_of(item: ImageSource) -> str:
    """Return what an image is called in tables: its path where it has one."""
    if isinstance(item, (str, LazyImage)):
        return str(item)
    return str(getattr(item, "filename", "")) or "array"


def _item_digest(item: ImageSource) -> bytes:
    if isinstance(item, LazyImage):
        with naming(item):
            fetched = item.fetch()
        return hashlib.sha256(fetched).digest() if isinstance(fetched, bytes) else _item_digest(fetched)
    if isinstance(item, np.ndarray):
        content = repr(item.shape).encode() + item.tobytes()
    elif isinstance(item, Image.Image):
        content = repr((item.mode, item.size)).encode() + item.tobytes()
    else:
        try:
            content = Path(item).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read image {str(item)!r}: {error.strerror}.") from error
    return hashlib.sha256(content).digest()
