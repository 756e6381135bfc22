"""NumPy's .npz: a zip of .npy members, stored or deflated. Object arrays are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from portnet.errors import WeightsError
from portnet.weights.arrays import check_budget, contiguous_view
from portnet.weights.zipped import Archive

__all__ = ["read_npz"]

_MAX_HEADER = 10_000
_KINDS = "biuf"
_READ_HEADER: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz file, in order of its members.

    Raises:
        WeightsError: broken, a member that is no .npy of plain numbers, or a zip bomb.
    """
    archive = Archive(path)
    strangers = [name for name in archive.members if not name.endswith(".npy")]
    if strangers:
        raise WeightsError(f"{path}: member {strangers[0]!r} is no .npy array. Is it an .npz file?")
    check_budget([member.file_size for member in archive.members.values()], len(archive.data), str(path))
    return {name.removesuffix(".npy"): _array(archive, name) for name in archive.members}


def _array(archive: Archive, name: str) -> np.ndarray:
    what = f"{archive.path}: {name!r}"
    data = archive.inflated(name)
    header = io.BytesIO(data[: _MAX_HEADER + 16])
    version = npy.read_magic(header)
    if version not in _READ_HEADER:
        raise WeightsError(f"{what}: got version {version} of .npy, expected one of {list(_READ_HEADER)}")
    shape, fortran, dtype = _READ_HEADER[version](header, max_header_size=_MAX_HEADER)
    if dtype.kind not in _KINDS:
        raise WeightsError(f"{what}: dtype {dtype} is refused: expected booleans, integers or floats")
    if fortran:
        return contiguous_view(data, dtype, shape[::-1], header.tell(), what).T
    return contiguous_view(data, dtype, shape, header.tell(), what)
