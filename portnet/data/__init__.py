"""Data: from image files to seeded, resumable batches, the same for every engine.

`load_dataset` finds and checks images, `split` holds some out, `Loader` reads them in batches. Needs NumPy and Pillow.
"""

from portnet.data.augment import Augment
from portnet.data.dataset import Dataset, load_dataset, split
from portnet.data.folders import find_splits
from portnet.data.images import open_image
from portnet.data.loader import Loader
from portnet.data.preprocess import normalise, to_bytes

__all__ = [
    "Augment",
    "Dataset",
    "Loader",
    "find_splits",
    "load_dataset",
    "normalise",
    "open_image",
    "split",
    "to_bytes",
]
