"""What a run shows while it works: a bar for the epoch in hand, one line for each that is done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, cast

from portnet.drawing.text import figure
from portnet.finetuning.history import Epoch, Position, Validation
from portnet.terminal import LastingOutput, legible

__all__ = ["ConsoleReporter", "SilentReporter", "epoch_line"]


class SilentReporter(AbstractContextManager["SilentReporter"]):
    """Shows nothing."""

    def __exit__(self, *exception: object) -> None:
        return None

    def when_unread(self, act: Callable[[], None]) -> None:
        """Say what to do once nobody reads any more what is shown."""

    def note(self, text: str) -> None:
        """Say something once."""

    def task(self, text: str, total: int) -> Any:
        """Begin a piece of work; the result is called with how much is done."""
        return lambda done: None

    def step(self, position: Position, batches: int, loss: float) -> None:
        """One step is done."""

    def validation(self, validation: Validation) -> None:
        """The validation images were classified."""

    def epoch(self, epoch: Epoch, total: int) -> None:
        """One epoch is done."""


class ConsoleReporter(SilentReporter):
    """Shows bars and lines on the terminal by rich; lines alone where the output is no terminal.

    An output that fails is not written to any more, and nothing else happens.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._when_unread: Callable[[], None] = lambda: None
        stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
        self.console = Console(file=cast("IO[str]", LastingOutput(stream, self._tell_unread)), highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[info]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._task: Any = None
        self._epoch = 0
        self._validation = ""

    def __enter__(self) -> ConsoleReporter:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def when_unread(self, act: Callable[[], None]) -> None:
        """Have ``act`` called once when whoever read a pipe has gone."""
        self._when_unread = act

    def _tell_unread(self) -> None:
        self._when_unread()

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(legible(text, self.console.file), soft_wrap=True, markup=False)

    def task(self, text: str, total: int) -> Any:
        """Show a bar; the result is called with how much is done."""
        task = self._progress.add_task(text, total=total, info="")

        def advance(done: int) -> None:
            self._progress.update(task, completed=done, info=f"{done}/{total}", visible=done < total)

        return advance

    def step(self, position: Position, batches: int, loss: float) -> None:
        """Move the epoch's bar."""
        if self._task is None:
            self._task = self._progress.add_task("", total=batches, info="")
        if (
            position.epoch != self._epoch
        ):  # else the bar of the last epoch, which is full, would say that no time is left
            self._epoch = position.epoch
            self._progress.reset(self._task)
        accuracy = position.correct / max(position.seen, 1)
        self._progress.update(
            self._task,
            description=f"epoch {position.epoch + 1}",
            total=batches,
            completed=position.batch,
            info=f"{position.batch}/{batches}  loss {figure(loss)} {accuracy:.1%}{self._validation}",
        )

    def validation(self, validation: Validation) -> None:
        """Show it in the epoch's bar from now on."""
        self._validation = f"  val {figure(validation.loss)} {validation.accuracy:.1%}"

    def epoch(self, epoch: Epoch, total: int) -> None:
        """Print the epoch's line; a narrow terminal breaks it between words."""
        text = legible(epoch_line(epoch, total), self.console.file)
        self.console.print(text, soft_wrap=not self.console.is_terminal, markup=False)


def epoch_line(epoch: Epoch, total: int) -> str:
    """Return an epoch in one line."""
    width = len(str(total))
    text = f"epoch {epoch.epoch + 1:>{width}}/{total}  loss {figure(epoch.loss)}  accuracy {epoch.accuracy:6.2%}"
    if epoch.val_accuracy is not None and epoch.val_loss is not None:
        text += f"  val loss {figure(epoch.val_loss)}  val accuracy {epoch.val_accuracy:6.2%}"
    left = (total - epoch.epoch - 1) * epoch.seconds
    text += f"  {epoch.images_per_second:,.0f} images/s  {epoch.seconds:.1f} s"
    return text + (f"  {left:.0f} s left" if left >= 1 else "")
