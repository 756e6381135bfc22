"""Keras's HDF5 weight files, Keras 2 and Keras 3, read with h5py as plain arrays; no model is ever built from them.

A weight gets the name that Keras gave it, ``layer/kernel``, or in Keras 3's files, which number a layer's
variables, ``layer/0``. HDF5 can point outside the file and declare more than it stores: both are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from portnet.errors import MissingDependencyError, WeightsError
from portnet.weights.arrays import check_budget, element_count, native

if TYPE_CHECKING:
    import h5py

__all__ = ["SIGNATURE", "read_h5"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MAX_DEPTH = 16
_MAX_NAME = 1024
_KINDS = "biuf"
# deflate, shuffle, fletcher32: the filters that are part of HDF5 itself; others load plugins
_FILTERS = {1, 2, 3}
_OPTIMIZER = ("optimizer", "optimizer_weights")


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a Keras .h5 file (weights alone or a whole model), in order of the file.

    Raises:
        WeightsError: broken, links, external or virtual data, unknown filters, or more declared than stored.
        MissingDependencyError: h5py is not installed.
    """
    h5py = _h5py()
    with h5py.File(path, "r") as file:
        whole_model = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
        walk = _Walk(h5py, path)
        walk.enter(file["model_weights"] if whole_model else file, ())
        _check_sizes(walk.datasets, path)
        return {name: _values(dataset) for name, dataset in walk.datasets.items()}


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("reading .h5 weights needs h5py: pip install h5py") from error
    return h5py


def _values(dataset: h5py.Dataset) -> np.ndarray:
    return np.asarray(dataset[()], dtype=native(dataset.dtype))


class _Walk:
    """Collects the datasets below a group by weight name. Links are refused, and no group is entered twice."""

    def __init__(self, h5py: Any, path: Path) -> None:
        self.h5py, self.path = h5py, path
        self.datasets: dict[str, h5py.Dataset] = {}
        self.entered: set[int] = set()

    def enter(self, group: h5py.Group, path: tuple[str, ...]) -> None:
        address = self.h5py.h5o.get_info(group.id).addr
        if len(path) > _MAX_DEPTH or address in self.entered:
            raise WeightsError(f"{self.path}: groups nested deeper than {_MAX_DEPTH}, or in a circle. Refused.")
        self.entered.add(address)
        for name in group:
            if path or name not in _OPTIMIZER:
                self.visit(group, (*path, name))

    def visit(self, group: h5py.Group, path: tuple[str, ...]) -> None:
        if not isinstance(group.get(path[-1], getlink=True), self.h5py.HardLink):
            raise WeightsError(f"{self.path}: {'/'.join(path)!r} is a link; it may lead outside the file. Refused.")
        item = group[path[-1]]
        if isinstance(item, self.h5py.Group):
            self.enter(item, path)
        elif isinstance(item, self.h5py.Dataset):
            name = _weight_name(group, path)
            if name in self.datasets:
                raise WeightsError(f"{self.path}: two weights are named {name!r}")
            self.datasets[name] = item


def _weight_name(group: h5py.Group, path: tuple[str, ...]) -> str:
    """Name a weight: by Keras 3's ``name`` of the layer, else by its path without the repeated layer."""
    layer = _layer_name(group) if len(path) > 1 and path[-2] == "vars" else None
    if layer is not None:
        return f"{layer}/{path[-1]}"
    if len(path) > 2 and path[0] == path[1]:
        path = path[1:]
    return "/".join(path).removesuffix(":0")


def _layer_name(group: h5py.Group) -> str | None:
    if "name" not in group.attrs or group.attrs.get_id("name").shape != ():
        return None
    name = group.attrs["name"]
    return name[:_MAX_NAME] if isinstance(name, str) else None


def _check_sizes(datasets: dict[str, h5py.Dataset], path: Path) -> None:
    for name, dataset in datasets.items():
        _check_plain(dataset, f"{path}: {name!r}")
    nbytes = [dataset.size * dataset.dtype.itemsize for dataset in datasets.values()]
    check_budget(nbytes, path.stat().st_size, str(path))


def _check_plain(dataset: h5py.Dataset, what: str) -> None:
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if properties.get_external_count() or dataset.is_virtual:
        raise WeightsError(f"{what} keeps its data outside the file. Refused.")
    if not filters <= _FILTERS:
        raise WeightsError(f"{what} uses HDF5 filters {sorted(filters)}, expected some of {sorted(_FILTERS)}. Refused.")
    if dataset.dtype.kind not in _KINDS or dataset.shape is None:
        raise WeightsError(f"{what} has dtype {dataset.dtype}, expected booleans, integers or floats. Refused.")
    nbytes, stored = element_count(dataset.shape, what) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if stored < nbytes and not (filters and stored):
        raise WeightsError(f"{what} declares {nbytes} bytes and stores {stored}. Refused.")
