"""Images that a run has more than once, where that does harm: under two labels, or trained on and held out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from portnet.data.dataset import Dataset, name_of
from portnet.data.skipped import printable

__all__ = ["notes"]


class _Seen(NamedTuple):
    name: str
    label: str
    is_trained_on: bool


def notes(train: Dataset, held_out: list[Dataset]) -> list[str]:
    """Return what is to be said of such images, a line for each kind; of sets whose digests are not known, nothing."""
    if not all(part.knows_digests for part in (train, *held_out)):
        return []
    first: dict[bytes, _Seen] = {}
    conflicts, leaks = [], []
    for digest, seen in _images(train, held_out):
        other = first.setdefault(digest, seen)
        if other.label != seen.label:
            conflicts.append((other, seen))
        if other.is_trained_on and not seen.is_trained_on:
            leaks.append((other, seen))
    said = []
    if conflicts:
        one, other = conflicts[0]
        said.append(
            f"{_images_are(len(conflicts))} in another class too, byte for byte, such as {one.name} ({one.label}) and "
            f"{other.name} ({other.label}). Remove those that are in the wrong one"
        )
    if leaks:
        one, other = leaks[0]
        said.append(
            f"{_images_are(len(leaks))} held out and trained on too, byte for byte, such as {other.name} and "
            f"{one.name}, so that accuracy is measured too high. Keep each once"
        )
    return said


def _images(train: Dataset, held_out: list[Dataset]) -> Iterator[tuple[bytes, _Seen]]:
    """Yield every image's digest and what it is, those to train on first."""
    for part in (train, *held_out):
        for digest, item, label in zip(part.item_digests, part.items, part.labels.tolist(), strict=True):
            yield digest, _Seen(printable(name_of(item)), printable(part.classes[label]), part is train)


def _images_are(count: int) -> str:
    return "1 image is" if count == 1 else f"{count:,} images are"
