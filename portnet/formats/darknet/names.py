"""What OpenCV's importer calls Darknet's layers: an activation is numbered as the section behind it."""

from __future__ import annotations

__all__ = ["opencv_name"]

_RENAMED = {"fc": "fullyConnected", "route": "concat", "dropout": "identity"}
_ACTIVATIONS = frozenset({"leaky", "mish", "swish", "logistic"})


def opencv_name(tensor: str) -> str:
    """Return OpenCV's name of the layer that yields a tensor of the captured network."""
    what, _, number = tensor.partition("_")
    if what in _ACTIVATIONS and number.isdecimal():
        return f"{what}_{int(number) + 1}"
    return f"{_RENAMED.get(what, what)}_{number}"
