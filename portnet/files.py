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

__all__ = ["cache_root", "replace_file", "staged", "sync_folder"]


def cache_root() -> Path:
    """Return the folder of everything that PortNet keeps for later: ``$PORTNET_CACHE``, else the platform's own."""
    import platformdirs

    chosen = os.environ.get("PORTNET_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("portnet", appauthor=False))


def replace_file(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Write a file whole or not at all: ``fill(file)`` into a temporary one, fsync, rename, fsync of the folder.

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
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk before anything that is done next; where the system cannot, nothing happens."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Give a path of the same name in an empty, hidden folder beside ``output``, for files or a folder to be written.

    When the block ends well, everything in that folder is moved to where it belongs, replacing what is there; when it
    does not, everything is removed and what was there before still is.

    Raises:
        OutputError: ``output`` is a folder that is not empty, or its own folder does not exist or cannot be written.
    """
    check_place(output)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent))
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    try:
        (staging / "new").mkdir()
        yield staging / "new" / output.name
        _move_in(staging, output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_place(output: Path) -> None:
    """Make sure that ``output`` may be written.

    Raises:
        OutputError: it is a folder that is not empty, or its own folder does not exist or may not be written to.
    """
    if not output.name or not output.parent.is_dir():
        raise OutputError(f"cannot write {output}: expected a name in a folder that exists")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"cannot write {output}: its folder may not be written to")
    _refuse_full_folder(output)


def _move_in(staging: Path, output: Path) -> None:
    """Move all of ``staging/new`` beside ``output``; on failure bring back what was there."""
    old = staging / "old"
    old.mkdir()
    moved: list[Path] = []
    try:
        for entry in sorted((staging / "new").iterdir()):
            _flush(entry)
            target = output.with_name(entry.name)
            _refuse_full_folder(target)
            if target.exists():
                target.rename(old / target.name)
            moved.append(target)
            entry.rename(target)
    except BaseException:
        for target in moved:
            _remove(target)
        for backup in old.iterdir():
            backup.rename(output.with_name(backup.name))
        raise


def _refuse_full_folder(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()):
        raise OutputError(f"cannot write {path}: got a folder that is not empty. Name another, or empty it.")


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _flush(entry: Path) -> None:
    for path in [entry] if entry.is_file() else [p for p in entry.rglob("*") if p.is_file()]:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
