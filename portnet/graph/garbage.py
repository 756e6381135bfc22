"""Python's search for cyclic garbage, put off while a network is built."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["no_collection"]


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Put off garbage collection inside the block, where many objects are made and all of them stay.

    The more objects are made, the more often Python looks at those that there are; with a framework in the process
    these are millions, and one look takes a quarter of a second. What nothing refers to is freed at once all the same.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
