"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from portnet.errors import OutputError

__all__ = ["replace_file", "staged"]


def replace_file(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Write a file whole or not at all: ``fill(file)`` into a temporary one, fsync, rename.

    Raises:
        OutputError: it cannot be written; what was there before still is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Give a path of the same name in an empty, hidden folder beside ``output``, for files or a folder to be written.

    When the block ends well, everything in that folder is moved to where it belongs, replacing what is there; when it
    does not, everything is removed and what was there before still is.

    Raises:
        OutputError: ``output`` is a folder that is not empty, or its own folder does not exist or cannot be written.
    """
    if output.is_dir() and any(output.iterdir()):
        raise OutputError(f"cannot write {output}: got a folder that is not empty. Name another, or empty it.")
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent))
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    try:
        (staging / "new").mkdir()
        yield staging / "new" / output.name
        _move_in(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_in(staging: Path, output: Path) -> None:
    """Move all of ``staging/new`` beside ``output``; on failure bring back what was there."""
    old = staging / "old"
    old.mkdir()
    moved: list[Path] = []
    try:
        for entry in sorted((staging / "new").iterdir()):
            _flush(entry)
            target = output.with_name(entry.name)
            if target.exists():
                _set_aside(target, old)
            moved.append(target)
            entry.rename(target)
    except BaseException as error:
        for target in moved:
            _bring_back(target, old / target.name)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
        raise


def _set_aside(target: Path, folder: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        raise OutputError(f"cannot write {target}: got a folder that is not empty. Name another, or empty it.")
    target.rename(folder / target.name)


def _bring_back(target: Path, backup: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    if backup.exists():
        backup.rename(target)


def _flush(entry: Path) -> None:
    for path in [entry] if entry.is_file() else [p for p in entry.rglob("*") if p.is_file()]:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
