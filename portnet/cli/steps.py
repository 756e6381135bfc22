"""The steps of a long command, shown as they run."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

__all__ = ["Steps"]


class Steps:
    """Shows on standard error each step while it runs and, when it is done, how long it took."""

    def __init__(self) -> None:
        from rich.console import Console

        self._status = Console(stderr=True, highlight=False).status("")
        self._step, self._start = "", 0.0

    def __call__(self, step: str) -> None:
        """Begin a step."""
        self._finish()
        self._step, self._start = step, time.perf_counter()
        self._status.update(f"{_plain(step)} ...")

    def _finish(self) -> None:
        if self._step:
            self._status.console.print(f"{_plain(self._step)}: {time.perf_counter() - self._start:.1f} s")

    def __enter__(self) -> Steps:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._finish()
        self._status.stop()


def _plain(text: str) -> Any:
    from rich.markup import escape

    return escape(text)
