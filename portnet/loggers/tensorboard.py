"""A run as TensorBoard event files, written by tensorboardX: no framework and no TensorBoard is loaded for it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from portnet.errors import MissingDependencyError, OutputError
from portnet.finetuning.callbacks import Callback, Start, Step
from portnet.finetuning.history import Epoch, Validation

if TYPE_CHECKING:
    from portnet.finetuning.run import Run

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes ``loss/step`` and ``learning rate`` at each step, ``loss`` and ``accuracy`` by epoch and validation.

    The horizontal axis is the count of steps. A resumed run goes on in the same curves.

    Args:
        folder: what ``tensorboard --logdir`` is to be given.

    Raises:
        MissingDependencyError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingDependencyError(
                "logger tensorboard needs tensorboardX: pip install 'portnet[tensorboard]'"
            ) from None
        self._make, self._folder = SummaryWriter, os.fspath(folder)
        self._writer: Any = None
        self._step = 0

    def on_start(self, start: Start) -> None:
        """Open an event file; what a killed run wrote beyond the step it resumes from is hidden."""
        try:
            self._writer = self._make(self._folder, purge_step=start.step + 1 if start.step else None)
        except OSError as error:
            raise OutputError(f"cannot write {self._folder}: {error.strerror}. Choose another folder.") from error
        self._step = start.step
        self._writer.add_text("settings", f"```\n{json.dumps(start.settings.to_dict(), indent=2)}\n```", start.step)

    def on_step(self, step: Step) -> None:
        """Write loss and learning rate."""
        self._step = step.step
        self._writer.add_scalar("loss/step", step.loss, step.step)
        self._writer.add_scalar("learning rate", step.lr, step.step)

    def on_validation(self, validation: Validation) -> None:
        """Write loss and accuracy."""
        self._writer.add_scalar("loss/validation", validation.loss, validation.step)
        self._writer.add_scalar("accuracy/validation", validation.accuracy, validation.step)

    def on_epoch(self, epoch: Epoch) -> None:
        """Write loss and accuracy, and flush."""
        self._writer.add_scalar("loss/training", epoch.loss, self._step)
        self._writer.add_scalar("accuracy/training", epoch.accuracy, self._step)
        self._writer.add_scalar("images a second", epoch.images_per_second, self._step)
        self._writer.flush()

    def on_end(self, run: Run | None) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
