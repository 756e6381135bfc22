"""Class folders of JPEGs: cuttings of scikit-image's photos at a size, with a camera's noise, at quality 90."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.peers import cache

__all__ = ["pictures"]

PHOTOS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "astronaut.png")


def pictures(width: int, height: int, count: int) -> Path:
    """Return a folder of two class folders with ``count`` images in all, made once and kept."""
    folder = cache() / f"pictures-{width}x{height}-{count}"
    done = folder.with_name(f"{folder.name}.done")
    if not done.exists():
        for number in range(count):
            path = folder / "ab"[number % 2] / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            _picture(number, width, height).save(path, quality=90)
        done.touch()
    return folder


def _picture(number: int, width: int, height: int) -> Image.Image:
    import skimage

    random = np.random.default_rng(number)
    photo = Image.open(Path(skimage.__file__).parent / "data" / PHOTOS[number % len(PHOTOS)]).convert("RGB")
    across = int(min(photo.width, photo.height * width / height) * random.uniform(0.8, 1))
    down = int(across * height / width)
    left, top = random.integers(photo.width - across + 1), random.integers(photo.height - down + 1)
    part = photo.crop((left, top, left + across, top + down)).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(part) + random.normal(0, 3, (height, width, 3)).astype(np.float32)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
