"""Keras's .h5 weight files, Keras 2 and Keras 3: the arrays, under Keras's names. No model is built from them.

A weight is called ``layer/kernel`` as Keras called it, or in Keras 3's files, which number a layer's variables,
``layer/0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import Buffer, check_budget, map_file
from portnet.weights.hdf5 import H5File, Message

__all__ = ["H5Group", "read_groups", "read_h5"]

_MAX_DEPTH = 32
# what a whole saved model holds besides its weights
_OPTIMIZER = ("optimizer", "optimizer_weights")
_WHOLE_MODEL = "model_weights"


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a Keras .h5 file (weights alone, or a whole model), in order of the file.

    Raises:
        WeightsError: broken, or it uses more of HDF5 than Keras does by default (see `hdf5`).
    """
    arrays: dict[str, np.ndarray] = {}
    file = H5File(map_file(path), str(path))
    for name, array in _weights(file, file.root, (), None):
        if name in arrays:
            raise WeightsError(f"{path}: two weights are named {name!r}")
        arrays[name] = array
    return arrays


def _weights(file: H5File, address: int, path: tuple[str, ...], layer: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the datasets at and below an object; ``layer`` is Keras 3's name of the group around it."""
    messages = file.messages(address)
    members = file.members(messages)
    if members is None:
        array = file.array(messages)
        if array is not None:
            yield _name(path, layer), array
        return
    if len(path) > _MAX_DEPTH:
        raise WeightsError(f"{file.what}: groups nested deeper than {_MAX_DEPTH}. Refused.")
    if not path and _WHOLE_MODEL in members:
        yield from _weights(file, members[_WHOLE_MODEL], (), None)
        return
    named = file.text_attribute(messages, "name") if path and path[-1] == "vars" else None
    for name, member in members.items():
        if path or name not in _OPTIMIZER:
            yield from _weights(file, member, (*path, name), named)


def _name(path: tuple[str, ...], layer: str | None) -> str:
    if layer is not None:
        return f"{layer}/{path[-1]}"
    if len(path) > 2 and path[0] == path[1]:  # Keras 2 repeats the layer
        path = path[1:]
    return "/".join(path).removesuffix(":0")


@dataclass
class H5Group:
    """A group of an HDF5 file as it stands: what Keras wrote, under the file's own names.

    Attributes:
        groups: groups inside, by name.
        arrays: datasets inside, by name; views of the file.
    """

    _file: H5File
    _messages: Sequence[Message]
    groups: dict[str, H5Group] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return a text attribute, or None."""
        return self._file.text_attribute(self._messages, name)

    def texts(self, name: str) -> list[str] | None:
        """Return an attribute that is a list of texts; Keras writes long ones as ``name0``, ``name1``, ..."""
        found = self._file.texts_attribute(self._messages, name)
        return _numbered(self, name) if found is None else found

    def find(self, path: str) -> np.ndarray | None:
        """Return the dataset at a path such as ``dense/kernel:0`` below the group, or None."""
        *above, last = path.split("/")
        group: H5Group | None = self
        for step in above:
            group = group.groups.get(step) if group is not None else None
        return group.arrays.get(last) if group is not None else None

    def flat(self, above: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """Yield every dataset at and below the group by its path."""
        for name, array in self.arrays.items():
            yield above + name, array
        for name, group in self.groups.items():
            yield from group.flat(f"{above}{name}/")


def _numbered(group: H5Group, name: str) -> list[str] | None:
    found, count = [], 0
    while (part := group._file.texts_attribute(group._messages, f"{name}{count}")) is not None:
        found += part
        count += 1
    return found if count else None


def read_groups(data: Buffer, what: str) -> H5Group:
    """Read a whole HDF5 file, weights and whatever else Keras put into it.

    Args:
        data: the file.
        what: its name, for messages.

    Raises:
        WeightsError: see `hdf5`. Malformed structures also raise `struct.error` and LookupError.
    """
    file = H5File(data, what)
    group = _group(file, file.root, 0)
    if group is None:
        raise WeightsError(f"{what}: its root is no group. Fetch it again.")
    check_budget([array.nbytes for _, array in group.flat()], len(data), what)
    return group


def _group(file: H5File, address: int, depth: int, messages: Sequence[Message] | None = None) -> H5Group | None:
    if depth > _MAX_DEPTH:
        raise WeightsError(f"{file.what}: groups nested deeper than {_MAX_DEPTH}. Refused.")
    messages = file.messages(address) if messages is None else messages
    members = file.members(messages)
    if members is None:
        return None
    group = H5Group(file, messages)
    for name, member in members.items():
        inner = file.messages(member)
        below = _group(file, member, depth + 1, inner)
        array = file.array(inner) if below is None else None
        if below is not None:
            group.groups[name] = below
        elif array is not None:
            group.arrays[name] = array
    return group
