"""Outputs as they are: one that knows few characters shows 224x224 for 224×224, one that is gone ends nothing."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any

__all__ = ["HANDLER", "LastingOutput", "legible"]

HANDLER = "portnet.legible"
_PLAIN = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "…": "...", "·": "*", "≤": "<=", "≥": ">=", "→": "->", "’": "'", "μ": "u", "ε": "e"}
)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(HANDLER, _replace)


def legible(text: str, stream: Any) -> str:
    """Return what ``stream`` can encode of a text: other characters are spelt, or written as \\xNN."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, HANDLER).decode(encoding)


class LastingOutput:
    """A stream whose end is not the end of who writes to it; what can no longer be written is dropped.

    A terminal that was closed and a full disk below a log file fail each write. Whoever trains for hours goes on, and
    writes what counts where it belongs.

    Args:
        stream: where it is written to; None drops everything.
        unread: called once when whoever read a pipe has gone.
    """

    def __init__(self, stream: Any, unread: Callable[[], None]) -> None:
        self._stream, self._unread = stream, unread
        self._is_lost = stream is None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and bool(self._stream.isatty())

    def write(self, text: str) -> int:
        """Write, as far as that is possible."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, as far as that is possible."""
        self._try(lambda: self._stream.flush())

    def _try(self, call: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            call()
        except OSError as error:
            self._is_lost = True
            if isinstance(error, BrokenPipeError):
                self._unread()
