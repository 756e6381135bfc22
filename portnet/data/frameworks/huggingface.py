"""Hugging Face ``datasets``: the column of images as files' bytes, and the column of labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from portnet.data.frameworks.items import Collected, Labelled, class_of
from portnet.data.lazy import LazyImage
from portnet.errors import DataError, InputError

__all__ = ["labelled"]


def labelled(source: Any) -> Labelled:
    """Return what a ``datasets.Dataset`` or ``datasets.IterableDataset`` holds; see `portnet.data.frameworks`."""
    if source.features is None:
        raise InputError("dataset: its features are not known. Call dataset._resolve_features() or give features=.")
    image, label = _image_column(source.features), _label_column(source.features)
    feature = source.features[image]
    # with_format(None) undoes set_format and set_transform: files' bytes are wanted, whatever is made of them
    files = source.cast_column(image, type(feature)(decode=False)).with_format(None).select_columns([image, label])
    classes = getattr(source.features[label], "names", None)
    if not hasattr(source, "__len__"):
        return _streamed(files, image, label, classes)
    rows = files.select_columns([image])
    images = [LazyImage(f"row {i}", partial(_of_row, rows, i, image), is_encoded=True) for i in range(len(source))]
    labels = [_label(value) for value in files[label]]
    return Labelled(images, labels, None if classes is None else tuple(classes))


def _streamed(files: Any, image: str, label: str, classes: Any) -> Labelled:
    kept = Collected("the dataset", "Take a part of it: dataset.take(10_000).")
    for number, row in enumerate(files):
        data = _file(row[image])
        kept.add(LazyImage(f"row {number}", partial(bytes, data), is_encoded=True), _label(row[label]), len(data))
    return Labelled(kept.images, kept.labels, None if classes is None else tuple(classes))


def _image_column(features: Mapping[str, Any]) -> str:
    names = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if len(names) != 1:
        raise InputError(
            f"dataset: got {len(names)} columns of images among {', '.join(map(repr, features))}, expected one. "
            "Keep it with dataset.select_columns([image, label])."
        )
    return names[0]


def _label_column(features: Mapping[str, Any]) -> str:
    classes = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    names = classes if len(classes) == 1 else [name for name in ("label", "labels") if name in features]
    if len(names) != 1:
        raise InputError(
            f"dataset: got no label among the columns {', '.join(map(repr, features))}, expected one ClassLabel, or a "
            "column 'label'. Rename it: dataset.rename_column('breed', 'label')."
        )
    return names[0]


def _label(value: Any) -> int | str:
    if value is None:
        raise InputError("dataset: got a row without a label. Leave it out: dataset.filter(...).")
    return class_of(value, "dataset")


def _of_row(rows: Any, index: int, image: str) -> bytes:
    return _file(rows[index][image])


def _file(cell: Mapping[str, Any] | None) -> bytes:
    """Return an image file's bytes, kept in the table or beside it."""
    if cell is None:
        raise DataError("the row has no image")
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    return Path(cell["path"]).read_bytes()
