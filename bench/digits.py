"""scikit-learn's 1,797 handwritten digits as JPEG files in class folders, for training and for the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.peers import cache

__all__ = ["digits"]

# pixels of a file; the scans have 8 × 8
SIDE = 128
# of each ten digits, how many are trained on
TRAINED = 6


def digits() -> Path:
    """Return a folder of ``train`` and ``test``, each of ten class folders, made once and kept."""
    folder = cache() / f"digits-{SIDE}-{TRAINED}"
    done = folder.with_name(f"{folder.name}.done")
    if not done.exists():
        from sklearn.datasets import load_digits

        scans = load_digits()
        for number, (pixels, label) in enumerate(zip(scans.images, scans.target, strict=True)):
            part = "train" if number % 10 < TRAINED else "test"
            path = folder / part / str(label) / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
            image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB").save(path, quality=90)
        done.touch()
    return folder
