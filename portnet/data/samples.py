"""Small real data that is there without a network: scikit-learn's handwritten digits, as folders of images."""

from __future__ import annotations

import os
from pathlib import Path

from portnet.errors import MissingDependencyError, OutputError

__all__ = ["write_digits"]


def write_digits(
    folder: str | os.PathLike[str], classes: str = "0123456789", *, count: int | None = None, held_out: int = 0
) -> Path:
    """Write digits as PNG files of 64×64 pixels, dark on light as on paper, a folder a class; once.

    They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), 1,797 scans.

    Args:
        folder: where; what was written there before is left as it is.
        classes: which digits.
        count: images of each class, the first; None for all.
        held_out: n > 0 puts every n-th scan into ``test`` and the others into ``train``, folders of their own.

    Returns:
        The folder.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    if (folder / ".complete").exists():
        return folder
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError("the digits come with scikit-learn: pip install 'portnet[demo]'") from error
    from PIL import Image

    digits, written = load_digits(), dict.fromkeys(classes, 0)
    try:
        for index, (pixels, label) in enumerate(zip(digits.images, map(str, digits.target), strict=True)):
            if label not in written or written[label] == count:
                continue
            written[label] += 1
            part = () if not held_out else ("test" if index % held_out == held_out - 1 else "train",)
            path = folder.joinpath(*part, label, f"{index:04}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            # the scans are 8 by 8 pixels of 0..16
            scan = Image.fromarray((255 - pixels / 16 * 255).astype("uint8"))
            scan.resize((64, 64), Image.Resampling.BICUBIC).save(path)
        (folder / ".complete").touch()
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}. Choose another folder.") from error
    return folder
