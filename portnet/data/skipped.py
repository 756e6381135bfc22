"""Images that were left out, and how that is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Skipped", "describe_skipped", "printable"]

# images that are told one by one
MOST = 10


class Skipped(NamedTuple):
    """An image that was left out, and why."""

    path: str
    reason: str


def describe_skipped(items: Sequence[Skipped], rest: str = "") -> list[str]:
    """Return a line for each image that was left out, of many for the first ones.

    Args:
        items: the images.
        rest: what is to be said of the others after their number.
    """
    lines = [
        f"skipped {printable(item.path)}: {item.reason.removeprefix(f'cannot read image {item.path!r}: ')}"
        for item in items
    ]
    more = len(lines) - MOST
    return lines if more <= 1 else [*lines[:MOST], f"skipped {more:,} more{rest}"]


def printable(path: str) -> str:
    """Return a path as it is, or spelt where a terminal would obey it or begin another line."""
    return path if path.isprintable() else repr(path)
