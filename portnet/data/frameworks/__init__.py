"""Datasets of other libraries as PortNet's own. None of these libraries is imported: whoever has such a dataset has it.

They are known by the modules of their classes. What each becomes:

* Hugging Face ``datasets``: a `Dataset` is read from its Arrow table as files' bytes, image by image, whenever one is
  needed; an ``IterableDataset`` is read through once and its files' bytes are kept in memory.
* ``torch``: a map-style ``Dataset`` is asked for item i whenever image i is needed, by one thread at a time; what it
  gives must not change from call to call. Of torchvision's ``ImageFolder`` without transforms the files are read. An
  ``IterableDataset`` is read through once and kept in memory. Of a ``DataLoader`` the dataset is taken, or what its
  ``SubsetRandomSampler`` selects; batches, order and collating are PortNet's own.
* ``tf.data.Dataset``: read through once and kept in memory as uint8, batched or not. Floats from 0 to 255, as Keras's
  ``image_dataset_from_directory`` gives, are rounded. For a run to repeat itself, shuffle it with a seed or not at all.

Images must be whole pixels in 0..255, since PortNet prepares them itself as the network asks; what is normalised
already is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnet.data.frameworks import huggingface, tf_data, torch_data
from portnet.data.frameworks.items import Labelled
from portnet.errors import DataError, PortNetError

__all__ = ["Labelled", "labelled"]

# the libraries by the packages of their classes; Hugging Face's first, whose streams are torch's too
_LIBRARIES = (
    ("datasets.", ("Dataset", "IterableDataset"), huggingface.labelled),
    ("torch.utils.data.", ("Dataset", "DataLoader"), torch_data.labelled),
    ("tensorflow.python.data.", ("DatasetV2",), tf_data.labelled),
)


def labelled(source: Any) -> Labelled | None:
    """Return the images and labels of another library's dataset, or None if it is none.

    Raises:
        InputError: it has no labels, no end, is normalised already, or takes too much memory.
        DataError: its own code fails.
    """
    for package, names, read in _LIBRARIES:
        if any(cls.__module__.startswith(package) and cls.__name__ in names for cls in type(source).__mro__):
            return _read(read, source)
    return None


def _read(read: Callable[[Any], Labelled], source: Any) -> Labelled:
    """Name what goes wrong in somebody else's code, a dataset's own or a map's."""
    try:
        return read(source)
    except PortNetError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no reason given"])[0]
        reason = line.rpartition("}} ")[2][:200].rstrip(".")  # TensorFlow puts {{node …}} before it
        raise DataError(
            f"the {type(source).__name__} cannot be read: {type(error).__name__}: {reason}. "
            "The dataset's own code raises it; go through all of its items to find out where."
        ) from error
