"""SHA-256 of a network's arrays: each is read once, and any choice of them has a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["Digests", "weights_digest"]


class Digests:
    """The digest of each of some arrays, as they are now.

    Args:
        arrays: by name, of any dtype and shape.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._each = {name: _digest(array) for name, array in arrays.items()}

    def of(self, names: Iterable[str]) -> str:
        """Return SHA-256 over the names and digests of some of the arrays, in order of name, as hexadecimal."""
        state = hashlib.sha256()
        for name in sorted(names):
            state.update(f"{name}\0".encode() + self._each[name])
        return state.hexdigest()

    def but(self, arrays: Mapping[str, np.ndarray]) -> Digests:
        """Return the digests once these arrays have taken the place of those of their names."""
        changed = Digests(arrays)
        changed._each = {**self._each, **changed._each}
        return changed


def weights_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of arrays, in order of name, as hexadecimal."""
    return Digests(arrays).of(arrays)


def _digest(array: np.ndarray) -> bytes:
    """SHA-256 over dtype, shape and bytes."""
    array = np.ascontiguousarray(array)
    state = hashlib.sha256(f"{array.dtype}\0{array.shape}\0".encode())
    state.update(array.reshape(-1).view(np.uint8).data)
    return state.digest()
