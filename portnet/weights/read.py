"""`read_weights`: the arrays of any supported file, by what the file is rather than by what it is called."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from portnet.errors import PortNetError, WeightsError
from portnet.weights.arrays import check_budget
from portnet.weights.h5 import read_h5
from portnet.weights.hdf5 import SIGNATURE
from portnet.weights.npz import read_npz
from portnet.weights.numpy_pickle import read_numpy_pickle
from portnet.weights.params import LIST_MAGIC, read_params
from portnet.weights.pth import LEGACY_MAGIC, read_legacy, read_zip
from portnet.weights.safetensors import read_safetensors
from portnet.weights.zipped import Archive

__all__ = ["read_weights"]

Reader = Callable[[Path], dict[str, np.ndarray]]

_ZIP_MAGIC = b"PK\x03\x04"
# first bytes -> reader, the longer before the shorter
_MAGIC: tuple[tuple[bytes, Reader], ...] = (
    (LEGACY_MAGIC, read_legacy),
    (SIGNATURE, read_h5),
    (LIST_MAGIC, read_params),
    (b"\x80", read_numpy_pickle),
)
# what the standard library and numpy raise on a file that is not what it says
_BROKEN = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, EOFError, RuntimeError),
    *(MemoryError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile),
)
_KNOWN = ".safetensors, .pth/.pt, .npz, .h5, .params, or a pickled dict of numpy arrays"


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays in a weights file by name, in the file's order, without executing anything of it.

    Arrays are read-only and, where the format allows, views of the mapped file. Names are the file's own, with
    these changes: a checkpoint such as ``{"epoch": 3, "state_dict": {...}}`` is unwrapped (see `tree.WRAPPERS`);
    ``module.`` and ``_orig_mod.`` are removed if all names bear them; nested dicts are joined by "." (torch) or
    "/" (numpy pickles, where lists are numbered).

    Args:
        path: .safetensors, .pth/.pt (both of torch's formats), .npz, .h5 (Keras), .params (MXNet), or a pickled
            dict of numpy arrays. The content decides, not the suffix.

    Raises:
        WeightsError: no such file, an unknown, broken or hostile one, or one without arrays.
    """
    path = Path(path)
    try:
        arrays = _reader(path)(path)
    except PortNetError:
        raise
    except _BROKEN as error:
        raise WeightsError(f"{path} is broken: {error}. Fetch it again.") from error
    if not arrays:
        raise WeightsError(f"{path} holds no arrays")
    check_budget([array.nbytes for array in arrays.values()], path.stat().st_size, str(path))
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _reader(path: Path) -> Reader:
    head = _head(path)
    if _is_safetensors(head, path):
        return read_safetensors
    for magic, reader in _MAGIC:
        if head.startswith(magic):
            return reader
    if head.startswith(_ZIP_MAGIC):
        return _zip_reader(path)
    if head[8:9] == b"{":  # of a length that lies
        return read_safetensors
    raise WeightsError(f"{path} is no weights file that is known here: expected {_KNOWN}")


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Whether a file begins with the length of a JSON object and the object; the length may look like any magic."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise WeightsError(f"no such weights file: {path}")
    with path.open("rb") as file:
        return file.read(len(LEGACY_MAGIC))


def _zip_reader(path: Path) -> Reader:
    names = Archive(path).members
    if any(name.endswith("/data.pkl") for name in names):
        return read_zip
    if "model.weights.h5" in names:
        raise WeightsError(f"{path} is a .keras archive. Save its weights with model.save_weights('x.weights.h5').")
    return read_npz
