"""A run's folder: run.json, model.onnx and checkpoint.npz, each whole or absent, one run at a time."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from portnet.errors import InputError, OutputError
from portnet.files import replace_file
from portnet.finetuning.checkpoint import Checkpoint, read, write

__all__ = ["RunFolder"]


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
    def _lock(self) -> Path:
        return self.path / ".lock"

    def create(self) -> None:
        """Make the folder for a new run.

        Raises:
            OutputError: it holds a run already, or cannot be made or written.
        """
        if self.record.exists() or self.checkpoint.exists():
            raise OutputError(f"{self.path} holds a run already. Resume it, or choose another folder.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}. Choose another folder.") from error

    def lock(self) -> None:
        """Claim the folder for this process.

        Raises:
            OutputError: another living process works in it.
        """
        try:
            with open(self._lock, "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            owner = self._owner()
            if owner is not None and owner != os.getpid():
                raise OutputError(
                    f"{self.path} is in use by process {owner}. Wait for it, or choose another folder; "
                    f"if that process is no run, remove {self._lock}."
                ) from None
            self._lock.write_text(str(os.getpid()))

    def _owner(self) -> int | None:
        """Process id that holds the lock, or None if it is dead."""
        try:
            owner = int(self._lock.read_text())
            os.kill(owner, 0)
        except (ValueError, ProcessLookupError, FileNotFoundError):
            return None
        except PermissionError:
            pass
        return owner

    def unlock(self) -> None:
        """Give the folder back."""
        self._lock.unlink(missing_ok=True)

    def write_record(self, record: dict[str, Any]) -> None:
        """Write run.json in place of the last one."""
        text = json.dumps(record, indent=2).encode()
        replace_file(self.record, lambda file: file.write(text))

    def read_record(self) -> dict[str, Any]:
        """Read run.json.

        Raises:
            InputError: there is none, or it is damaged.
        """
        try:
            record = json.loads(self.record.read_text())
        except FileNotFoundError:
            raise InputError(f"{self.path} holds no run: {self.record.name} is missing.") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.record} is damaged: {error}") from error
        if not isinstance(record, dict) or record.get("schema") != 1:
            raise InputError(f"{self.record} is no run's record of schema 1")
        return record

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint in place of the last one."""
        write(self.checkpoint, checkpoint)

    def restore(self) -> Checkpoint:
        """Read the checkpoint."""
        return read(self.checkpoint)
