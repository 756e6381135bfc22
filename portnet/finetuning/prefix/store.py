"""Activations in files: written whole or not at all, checked when they are opened, memory-mapped while they are read.

An entry is a folder: one .npy file a tensor and a manifest with the key and the SHA-256 of each file. It is written
under a hidden name, flushed to the disk, then renamed, so that a process killed at any moment leaves a whole entry or
none; rows that it wrote are taken up by who writes the entry next (`portnet.finetuning.prefix.partial`). What does not
have the digest that its manifest says, or the shape that is expected, is removed and made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from portnet.errors import OutputError, UnknownNameError
from portnet.files import cache_root
from portnet.finetuning.prefix.partial import claim, clean, note, remove, take_up

__all__ = ["DamagedError", "Entry", "Store", "Writer"]

MANIFEST = "manifest.json"
SCHEMA = 1
# bytes of disk that are left free
SPARE = 1 << 28
# seconds after which a writer notes how far it has come
NOTE_EVERY = 10.0
# stands for the process that writes an unfinished entry where there is none
NOBODY = 0
_BLOCK = 1 << 20
_LARGEST_MANIFEST = 1 << 20
_NAME = re.compile(r"[0-9a-f]{16}")
_UNFINISHED = re.compile(r"\.([0-9a-f]{16})\.(\d+)\..*\.tmp")


class DamagedError(Exception):
    """An entry that is torn, changed or not ours."""


@dataclass(frozen=True)
class Entry:
    """What the store holds under one name.

    Attributes:
        id: its name.
        path: its folder.
        size: bytes of all its files.
        manifest: what was written with it; empty where it is unfinished or damaged.
        owner: process that is writing it now, or None.
    """

    id: str
    path: Path
    size: int
    manifest: dict[str, Any]
    owner: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it has a manifest. Files are checked against it when they are opened."""
        return bool(self.manifest)

    @property
    def is_left(self) -> bool:
        """Whether it is unfinished, and nobody is at it any more."""
        return self.owner is None and self.path.name.startswith(".")


class Store:
    """The entries in one folder: ``$PORTNET_CACHE/activations``, or below the platform's cache folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_root() / "activations"

    def __str__(self) -> str:
        """The folder as people write it."""
        home = os.path.expanduser("~")
        return f"~/{self.folder.relative_to(home)}" if self.folder.is_relative_to(home) else str(self.folder)

    # ---- looking

    def entries(self) -> list[Entry]:
        """Return what is there, unfinished and damaged entries included, the newest first.

        Raises:
            OutputError: the folder cannot be read.
        """
        with self._reading():
            paths = list(self.folder.iterdir()) if self.folder.is_dir() else []
            found = [entry for path in paths if (entry := _entry(path)) is not None]
        return sorted(found, key=lambda entry: str(entry.manifest.get("created", "")), reverse=True)

    def size(self) -> int:
        """Return the bytes of all entries."""
        return sum(entry.size for entry in self.entries())

    def free(self) -> int:
        """Return the bytes that the disk could take."""
        with self._reading():
            existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            return max(shutil.disk_usage(existing).free - SPARE, 0)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot read {self}: {error.strerror or error}") from error

    def holds(self, name: str) -> bool:
        """Whether there is an entry of that name, whole or not."""
        return os.path.isfile(self.folder / name / MANIFEST)  # also where the folder may not be read

    def open(self, name: str, key: dict[str, Any], shapes: Sequence[tuple[int, ...]], dtype: str) -> list[np.ndarray]:
        """Return an entry's arrays, memory-mapped, after every byte was compared with its digest.

        Raises:
            DamagedError: there is none, or it is not what was written, or another key's.
        """
        path = self.folder / name
        manifest = _manifest(path)
        if manifest.get("key") != key or len(manifest.get("files", ())) != len(shapes):
            raise DamagedError("the manifest is of other activations")
        arrays = [
            _mapped(path / f"{number}.npy", shape, dtype, digest)
            for number, (shape, digest) in enumerate(zip(shapes, manifest["files"], strict=True))
        ]
        os.utime(path / MANIFEST)
        return arrays

    # ---- changing

    @contextmanager
    def writing(
        self, name: str, key: dict[str, Any], shapes: Sequence[tuple[int, ...]], dtype: str, about: dict[str, Any]
    ) -> Iterator[Writer]:
        """Give a writer of an entry's rows, with those that another one was interrupted after.

        The entry is there once the block has ended well. Ctrl-C leaves the rows that are whole to whoever writes it
        next; what fails leaves nothing.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        target = self.folder / name
        staging: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{name}.{os.getpid()}.", suffix=".tmp", dir=self.folder))
            writer = Writer(staging, key, shapes, dtype, self._unfinished(name))
            try:
                yield writer
                digests = writer.finish()
            except KeyboardInterrupt:
                if writer.leave():
                    self._let_go(staging, name)
                raise
            finally:
                writer.close()
            created = datetime.now(timezone.utc).isoformat(timespec="seconds")
            clean(staging)
            text = json.dumps({"schema": SCHEMA, "created": created, **about, "key": key, "files": digests}, indent=1)
            _write_through(staging / MANIFEST, text.encode())
            if target.exists():  # another process was faster, or an entry that is damaged
                shutil.rmtree(target)
            staging.rename(target)
            _flush_folder(self.folder)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            if staging is not None:
                shutil.rmtree(staging, ignore_errors=True)

    def begun(self, names: Sequence[str]) -> int:
        """Return the bytes of these entries that processes wrote which have ended since."""
        return sum(each.size for each in self.entries() if each.id in names and each.is_left)

    def left_beside(self, names: Sequence[str]) -> list[Entry]:
        """Return what nobody finished of other entries than these."""
        return [each for each in self.entries() if each.is_left and each.id not in names]

    def drop_left(self, names: Sequence[str]) -> None:
        """Make room: remove what nobody finished of other entries than these."""
        remove([each.path for each in self.left_beside(names)])

    def _unfinished(self, name: str) -> list[Path]:
        return [each.path for each in self.entries() if each.id == name and each.is_left]

    def _let_go(self, staging: Path, name: str) -> None:
        """Leave a folder to whoever writes the entry next, this process included."""
        with suppress(OSError):
            staging.rename(tempfile.mkdtemp(prefix=f".{name}.{NOBODY}.", suffix=".tmp", dir=self.folder))

    def remove(self, name: str) -> None:
        """Remove an entry if it is there. Who has it open can go on reading."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def clear(self, name: str | None = None) -> list[Entry]:
        """Remove all entries, or the one that ``name`` is the beginning of; return them.

        What another process is writing now stays.

        Raises:
            UnknownNameError: no entry has that name.
            OutputError: a file cannot be removed.
        """
        entries = [entry for entry in self.entries() if entry.owner is None]
        chosen = [entry for entry in entries if name is None or (name and entry.id.startswith(name))]
        if name is not None and not chosen:
            raise UnknownNameError("cache entry", name, [entry.id for entry in entries])
        for entry in chosen:
            try:
                shutil.rmtree(entry.path)
            except OSError as error:
                raise OutputError(f"cannot remove {entry.path}: {error.strerror or error}") from error
        return chosen


class Writer:
    """Writes the rows of an entry's arrays in order.

    Attributes:
        rows: how many are written, those included that were taken up from ``left``.
    """

    def __init__(
        self,
        folder: Path,
        key: dict[str, Any],
        shapes: Sequence[tuple[int, ...]],
        dtype: str,
        left: Sequence[Path] = (),
    ) -> None:
        self._folder, self._key = folder, key
        self._dtype, self.rows, self._expected = np.dtype(dtype), 0, shapes[0][0]
        self._lock, self._last_note = claim(folder), time.monotonic()
        self._files: list[BinaryIO] = []
        heads = [_header(shape, self._dtype) for shape in shapes]
        row_sizes = [int(np.prod(shape[1:])) * self._dtype.itemsize for shape in shapes]
        begun = (
            None if self._lock is None else take_up(left, folder, key, list(map(len, heads)), row_sizes, self._expected)
        )
        self._digests = [hashlib.sha256() for _ in shapes] if begun is None else begun.digests
        for number, head in enumerate(heads):
            path = folder / f"{number}.npy"
            self._files.append(open(path, "wb" if begun is None else "r+b"))  # noqa: SIM115 - closed in close
            if begun is None:
                self._put(number, head)
            else:
                self._files[number].truncate(begun.sizes[number])
                self._files[number].seek(begun.sizes[number])
        self.rows = 0 if begun is None else begun.rows
        self._whole = self.rows, [digest.copy() for digest in self._digests]

    def append(self, parts: Sequence[np.ndarray]) -> None:
        """Write the next rows, one array a tensor."""
        for number, part in enumerate(parts):
            self._put(number, np.ascontiguousarray(part, self._dtype).data.cast("B"))
        self.rows += len(parts[0])
        self._whole = self.rows, [digest.copy() for digest in self._digests]
        if time.monotonic() - self._last_note >= NOTE_EVERY:
            self.leave()

    def leave(self) -> bool:
        """Note how far it has come; return whether that can be taken up."""
        rows, digests = self._whole
        if self._lock is None or not rows:
            return False
        try:
            for file in self._files:
                file.flush()
            note(self._folder, self._key, rows, digests)
        except OSError:  # no room: what is to be written next says so
            return False
        self._last_note = time.monotonic()
        return True

    def finish(self) -> list[str]:
        """Flush everything to the disk; return the SHA-256 of each file."""
        assert self.rows == self._expected, (self.rows, self._expected)
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        return [digest.hexdigest() for digest in self._digests]

    def close(self) -> None:
        """Close the files, and let go of the folder."""
        for file in self._files:
            file.close()
        if self._lock is not None:
            self._lock.close()

    def _put(self, number: int, data: Any) -> None:
        self._files[number].write(data)
        self._digests[number].update(data)


def _entry(path: Path) -> Entry | None:
    """Return what a folder of the store is, or None for what is none of it."""
    unfinished = _UNFINISHED.fullmatch(path.name)
    if path.is_symlink() or not path.is_dir() or not (unfinished or _NAME.fullmatch(path.name)):
        return None
    try:
        size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    except FileNotFoundError:  # another process has just finished or removed it
        return None
    if unfinished:
        name, owner = unfinished.groups()
        return Entry(name, path, size, {}, int(owner) if _is_alive(int(owner)) else None)
    try:
        return Entry(path.name, path, size, _manifest(path))
    except DamagedError:
        return Entry(path.name, path, size, {})


def _is_alive(process: int) -> bool:
    if process == NOBODY:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _manifest(path: Path) -> dict[str, Any]:
    try:
        with open(path / MANIFEST, "rb") as file:
            manifest = json.loads(file.read(_LARGEST_MANIFEST))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"its manifest cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise DamagedError(f"its manifest is not of schema {SCHEMA}")
    return manifest


def _mapped(path: Path, shape: tuple[int, ...], dtype: str, digest: Any) -> np.ndarray:
    """Map an .npy file of that SHA-256 as the shape and dtype that are expected, whatever its header says."""
    header = _header(shape, np.dtype(dtype))
    try:
        if path.is_symlink() or path.stat().st_size != len(header) + int(np.prod(shape)) * np.dtype(dtype).itemsize:
            raise DamagedError(f"{path.name} has another size than was written")
        with open(path, "rb") as file:
            state = hashlib.sha256()
            while block := file.read(_BLOCK):
                state.update(block)
        if state.hexdigest() != digest:
            raise DamagedError(f"{path.name} does not have the digest that was written")
        mapped = np.memmap(path, dtype, "r", offset=len(header), shape=shape)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.name} cannot be read: {error}") from error
    return mapped.view(np.ndarray)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _write_through(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
