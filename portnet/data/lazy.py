"""Images that another library holds: fetched whenever they are read, not kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["LazyImage"]


@dataclass(frozen=True, eq=False)
class LazyImage:
    """An image and how to get it.

    Attributes:
        name: what errors and tables call it.
        fetch: returns an image file's bytes, a PIL image, or uint8 of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); the
            same ones at each call, from any thread.
        is_encoded: whether it returns a file's bytes, which is cheap.
    """

    name: str
    fetch: Callable[[], bytes | Image.Image | NDArray[np.uint8]]
    is_encoded: bool = False

    def __str__(self) -> str:
        return self.name
