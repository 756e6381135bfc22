"""Activations that nobody finished: which of their rows are whole, so that the next run goes on after them.

While an entry is written, a journal beside its files says now and then how many rows they hold and what digest these
have. Whoever writes holds a lock that the system lets go of when the process ends, however it ends. What is taken up
is read through first: rows that do not have their digest are not taken.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

__all__ = ["Begun", "claim", "clean", "note", "remove", "take_up"]

_JOURNAL = "partial.json"
_LOCK = ".lock"
_LARGEST = 1 << 20
_BLOCK = 1 << 20


class Begun(NamedTuple):
    """What is there of an entry.

    Attributes:
        rows: rows that are whole.
        sizes: bytes of each file that hold them, its header included.
        digests: SHA-256 states of these bytes.
    """

    rows: int
    sizes: list[int]
    digests: list[Any]


def note(folder: Path, key: dict[str, Any], rows: int, digests: Sequence[Any]) -> None:
    """Write down how many rows are whole. It is believed only as far as digests agree, so nothing is flushed."""
    journal = {"key": key, "rows": rows, "sha256": [digest.hexdigest() for digest in digests]}
    fresh = folder / f"{_JOURNAL}.new"
    fresh.write_text(json.dumps(journal))
    fresh.replace(folder / _JOURNAL)


def claim(folder: Path) -> IO[str] | None:
    """Lock a folder for whoever writes in it; None where another does, or where the system cannot tell."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    lock = None
    try:
        lock = open(folder / _LOCK, "a")  # noqa: SIM115 - closed by the writer
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if lock is not None:
            lock.close()
        return None
    return lock


def take_up(
    folders: Sequence[Path], into: Path, key: dict[str, Any], heads: Sequence[int], rows: Sequence[int], most: int
) -> Begun | None:
    """Move the files of the first of ``folders`` that holds whole rows; all that nobody writes in are removed.

    Args:
        folders: that were begun.
        into: the folder of whoever goes on.
        key: of the activations.
        heads: bytes before the rows, of each file.
        rows: bytes of a row, of each file.
        most: rows that there can be.
    """
    taken = None
    for folder in folders:
        lock = claim(folder)
        if lock is None:
            continue
        if taken is None:
            taken = _whole(folder, key, heads, rows, most)
            for number in range(len(rows) if taken is not None else 0):
                (folder / f"{number}.npy").rename(into / f"{number}.npy")
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
    return taken


def remove(folders: Sequence[Path]) -> None:
    """Remove what was begun, where nobody writes."""
    for folder in folders:
        lock = claim(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


def clean(folder: Path) -> None:
    """Remove from a folder what is of no use once its files are whole."""
    for name in (_JOURNAL, _LOCK):
        (folder / name).unlink(missing_ok=True)


def _whole(folder: Path, key: dict[str, Any], heads: Sequence[int], rows: Sequence[int], most: int) -> Begun | None:
    try:
        with open(folder / _JOURNAL, "rb") as file:
            journal = json.loads(file.read(_LARGEST))
        count, expected = journal["rows"], journal["sha256"]
        if journal["key"] != key or not isinstance(count, int) or not 1 <= count <= most or len(expected) != len(rows):
            return None
        sizes = [head + count * row for head, row in zip(heads, rows, strict=True)]
        digests = [_digest(folder / f"{number}.npy", size) for number, size in enumerate(sizes)]
        is_whole = [digest.hexdigest() for digest in digests] == expected
        return Begun(count, sizes, digests) if is_whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(path: Path, size: int) -> Any:
    """Return the SHA-256 state of a file's first bytes.

    Raises:
        ValueError: it has fewer, or is a link.
    """
    state, left = hashlib.sha256(), size
    if path.is_symlink():
        raise ValueError("a link")
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            state.update(block)
            left -= len(block)
    if left:
        raise ValueError("too short")
    return state
