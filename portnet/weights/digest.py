"""File digests, streamed."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["digest"]

_BLOCK = 1 << 20


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file's bytes as lower-case hexadecimal.

    Args:
        path: the file.
        algorithm: "sha256", or "sha1" where a publisher states nothing better.

    Raises:
        OSError: the file cannot be read.
    """
    state = hashlib.new(algorithm, usedforsecurity=algorithm != "sha1")
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()
