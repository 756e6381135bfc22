"""Memory that a thread keeps from one image to the next, as the system clears each page before it gives it out."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEPT", "scratch"]

KEPT = 16 * 2**20
"""Most bytes kept for one use: four megapixels of RGBX."""

# libjpeg-turbo stores rows at multiples of 32 past the processor's caches, and whoever reads them next waits
_ALIGNED, _OFF = 32, 8


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.by_use: dict[str, NDArray[np.uint8]] = {}


_OF_THREAD = _OfThread()


def scratch(use: str, count: int) -> NDArray[np.uint8]:
    """Return ``count`` bytes of any content, this thread's own until it asks for the same ``use`` again.

    What is larger than `KEPT` lives as long as it is used, so that one huge photo does not stay in every thread.
    """
    kept = _OF_THREAD.by_use.get(use)
    if kept is None or len(kept) < count:
        kept = _misaligned(count)
        if count <= KEPT:
            _OF_THREAD.by_use[use] = kept
    return kept[:count]


def _misaligned(count: int) -> NDArray[np.uint8]:
    memory = np.empty(count + _ALIGNED, np.uint8)
    start = (_OFF - memory.ctypes.data) % _ALIGNED
    return memory[start : start + count]
