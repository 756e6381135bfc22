"""A run's folder: run.json, model.onnx and checkpoint.npz, each whole or absent, one run at a time."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from portnet.errors import InputError, OutputError
from portnet.files import replace_file
from portnet.finetuning.checkpoint import Checkpoint, read, write

__all__ = ["RunFolder"]


# what is read of a record by its name
_PARTS: dict[str, tuple[str, ...]] = {
    "settings": ("backbone", "backend"),
    "environment": (),
    "data": ("source", "classes", "train", "digest"),
    "history": ("epochs", "losses"),
}


class RunFolder:
    """Where a run keeps what it has.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def model(self) -> Path:
        """The trained network."""
        return self.path / "model.onnx"

    @property
    def record(self) -> Path:
        """Everything that is known of the run, as JSON."""
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        """State to resume from; absent once the run is finished."""
        return self.path / "checkpoint.npz"

    @property
    def resume_command(self) -> str:
        """What to type to go on."""
        return f"portnet finetune --resume {shlex.quote(str(self.path))}"

    @property
    def _lock(self) -> Path:
        return self.path / ".lock"

    def create(self) -> None:
        """Make the folder for a new run.

        Raises:
            OutputError: it holds a run or something else already, or cannot be made or written.
        """
        self.refuse_run()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise OutputError(f"{self.path} holds something else already, expected a new or an empty folder.")
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}. Choose another folder.") from error

    def refuse_run(self) -> None:
        """Make sure that there is no run yet.

        Raises:
            OutputError: there is one.
        """
        if self.record.exists() or self.checkpoint.exists():
            raise OutputError(f"{self.path} holds a run already. Resume it, or choose another folder.")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep the folder for this run; what a killed run was writing is removed.

        The system holds the claim and lets go of it when the process ends, however it ends.

        Raises:
            OutputError: another run works in it.
        """
        lock = self._claim()
        try:
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            yield
        finally:
            self._lock.unlink(missing_ok=True)
            lock.close()

    def _claim(self) -> IO[str]:
        while True:
            lock = open(self._lock, "a+")  # noqa: SIM115 - closed by `claimed`
            if not _lock_file(lock):
                lock.seek(0)
                owner = lock.read().strip() or "another"
                lock.close()
                raise OutputError(f"{self.path} is in use by process {owner}. Wait for it, or choose another folder.")
            # whoever held it before may have removed the file since it was opened
            if _is_at(lock, self._lock):
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                return lock
            lock.close()

    def write_record(self, record: dict[str, Any]) -> None:
        """Write run.json in place of the last one; NaN and infinity, which JSON lacks, become null."""
        text = json.dumps(_plain(record), indent=2, allow_nan=False).encode()
        replace_file(self.record, lambda file: file.write(text))

    def read_record(self) -> dict[str, Any]:
        """Read run.json.

        Raises:
            InputError: there is none, or it is damaged.
        """
        try:
            record = json.loads(self.record.read_text())
        except (FileNotFoundError, NotADirectoryError):
            hint = " What was begun here ended before it trained: begin it anew." if self._lock.exists() else ""
            raise InputError(f"{self.path} holds no run: {self.record.name} is missing.{hint}") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.record} is damaged: {error}") from error
        if not isinstance(record, dict) or record.get("schema") != 1:
            raise InputError(f"{self.record} is no run's record of schema 1")
        for part, names in _PARTS.items():
            found = record.get(part)
            missing = [name for name in names if name not in found] if isinstance(found, dict) else [part]
            if missing:
                raise InputError(f"{self.record} is damaged: it has no {missing[0]}")
        return record

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint in place of the last one.

        Raises:
            OutputError: it cannot be written; the last one is still there.
        """
        try:
            write(self.checkpoint, checkpoint)
        except OutputError as error:
            rest = f"go on with: {self.resume_command}" if self.checkpoint.exists() else "begin anew"
            raise OutputError(f"{error}. The run ends here. Make room, then {rest}") from error

    def restore(self) -> Checkpoint:
        """Read the checkpoint."""
        return read(self.checkpoint)


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _lock_file(file: IO[str]) -> bool:
    """Lock a file for this process, and say whether that could be had; where files cannot be locked, it always can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network's file system without locks
        return True
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
