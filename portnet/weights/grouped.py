"""The arrays of a file, layer by layer, as far as their names tell: which layer, and what each is to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["FileLayer", "group", "is_sorted"]

# last part of a name -> what it is; torch, Keras, MXNet, Flax, TensorFlow
_ROLES = {
    **dict.fromkeys(("weight", "weights", "kernel", "depthwise_kernel", "depthwise_weights", "w"), "weight"),
    **dict.fromkeys(("bias", "biases", "b"), "bias"),
    **dict.fromkeys(("gamma", "scale"), "gamma"),
    **dict.fromkeys(("beta", "offset"), "beta"),
    **dict.fromkeys(("running_mean", "moving_mean", "mean"), "mean"),
    **dict.fromkeys(("running_var", "moving_variance", "moving_var", "variance", "var"), "variance"),
}
_NAME = re.compile(rf"(?:(.*?)[./_:])?({'|'.join(sorted(_ROLES, key=len, reverse=True))})(?::0)?", re.IGNORECASE)
# names by which kernels lie as (height, width, in, out)
_CHANNELS_LAST = frozenset({"kernel", "depthwise_kernel", "weights", "depthwise_weights"})


@dataclass
class FileLayer:
    """Arrays that belong together.

    Attributes:
        name: what their names have in common.
        arrays: (name in the file, array) by role.
        channels_last: whether its kernel lies as (height, width, in, out), and a dense one as (in, out).
    """

    name: str
    arrays: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    channels_last: bool = False

    @property
    def is_norm(self) -> bool:
        """Whether it has running statistics."""
        return "mean" in self.arrays and "variance" in self.arrays

    def describe(self) -> str:
        """Return the first of its arrays with its shape, for messages."""
        name, array = next(iter(self.arrays.values()))
        return f"{name!r} of shape {tuple(array.shape)}"


def group(arrays: Mapping[str, np.ndarray]) -> tuple[list[FileLayer], list[str]]:
    """Return the layers in order of their first arrays, and the names that tell no role.

    A norm's ``weight`` and ``bias`` become gamma and beta.
    """
    layers: dict[str, FileLayer] = {}
    nameless: list[str] = []
    for name, array in arrays.items():
        parts = _NAME.fullmatch(name)
        if parts is None:
            nameless.append(name)
            continue
        prefix, last = parts[1] or "", parts[2].lower()
        layer = layers.setdefault(prefix, FileLayer(prefix))
        role = _ROLES[last]
        if role in layer.arrays:
            nameless.append(name)
            continue
        layer.arrays[role] = (name, array)
        layer.channels_last = layer.channels_last or last in _CHANNELS_LAST
    for layer in layers.values():
        if layer.is_norm:
            renamed = {"weight": "gamma", "bias": "beta"}
            layer.arrays = {renamed.get(role, role): pair for role, pair in layer.arrays.items()}
    return list(layers.values()), nameless


def is_sorted(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether names are in the alphabet's order, which tells nothing of the network's.

    Safetensors are sorted by type first.
    """
    kinds: dict[np.dtype, list[list[str]]] = {}
    for name, array in arrays.items():
        kinds.setdefault(array.dtype, []).append(name.split("/"))
    return len(arrays) > 3 and all(names == sorted(names) for names in kinds.values())
