"""Networks of more layers in a row than Python's usual 1,000 calls within calls, in which Keras looks for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deep"]

# 500 bytes of stack each before Python 3.11, none from there on: within the 8 MB that a process has
_CALLS = 10_000


@contextmanager
def deep() -> Iterator[None]:
    """Let Keras follow long networks while it makes or reads a ``keras.Model``."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _CALLS))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
