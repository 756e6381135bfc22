"""Ctrl-C, a scheduler's SIGTERM or a terminal that closes, held until the end of a step: what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]


class Interrupt:
    """Whether somebody asked the run to end since it began."""

    def __init__(self) -> None:
        self.pressed = False

    def press(self) -> None:
        """Ask it to end with the step in hand."""
        self.pressed = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was pressed. Called between steps."""
        if self.pressed:
            raise KeyboardInterrupt


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Hold Ctrl-C (SIGINT), SIGTERM and SIGHUP until `Interrupt.check`; a second Ctrl-C interrupts at once.

    A service manager sends SIGTERM and SIGHUP together, a shell and the kernel both send SIGHUP when a terminal
    closes: none of them means hurry. Under nohup SIGHUP means nothing, as it did before. Outside the main thread, where
    Python delivers no signals, nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupt.press()

    previous = {number: signal.signal(number, handle) for number in _held()}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _held() -> list[int]:
    """Return the signals that are held back."""
    held: list[int] = [signal.SIGINT, signal.SIGTERM]
    # there is none on Windows
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        held.append(signal.SIGHUP)
    return held
