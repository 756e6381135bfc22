"""Masks of padding: which steps of a sequence count.

An Embedding with ``mask_zero`` and a Masking layer give one, layers pass it on with the tensor, and recurrent layers
read it. Keras 3 writes it into the network as an argument; Keras 2, and lists of layers, leave it unsaid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held

if TYPE_CHECKING:
    from portnet.formats.keras.walk import LayerNode, Walk

__all__ = ["Mask", "pass_on", "take_mask"]

# (batch, steps) of truths, written when somebody reads it
Mask = Callable[[], Held]

_RECURRENT = {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"}
_READ = _RECURRENT | {"GlobalAveragePooling1D"}
_PASSED = {
    *("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"),
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Dense", "Rescaling", "Identity"),
    *("BatchNormalization", "LayerNormalization", "UnitNormalization"),
}
# layers without masks: Keras drops it there, with a warning
_DROPPED = {
    *("Flatten", "Reshape", "Permute", "RepeatVector", "ZeroPadding1D", "UpSampling1D", "Cropping1D"),
    *("Conv1D", "SeparableConv1D", "MaxPooling1D", "AveragePooling1D", "GlobalMaxPooling1D", "Embedding"),
}


def take_mask(walk: Walk, node: LayerNode) -> tuple[LayerNode, Mask | None]:
    """Find the mask that a layer gets, among its arguments or with what it reads.

    Returns:
        The layer without that argument, its ``mask`` set where it reads one; and the mask that it only passes on.

    Raises:
        UnsupportedError: the layer reads the mask, and its translation does not.
    """
    told = node.kwargs.get("mask")
    unsaid = [walk.masks[held.value] for held in node.inputs if held.value in walk.masks]
    if (told is None and not unsaid) or node.kind in _DROPPED:
        return node, None
    if node.kind not in _READ | _PASSED or not (told is None or isinstance(told, Held)):
        raise UnsupportedError("a mask")
    mask: Mask = (lambda: told) if isinstance(told, Held) else unsaid[0]
    node = replace(node, kwargs={name: value for name, value in node.kwargs.items() if name != "mask"})
    if node.kind == "BatchNormalization":
        walk.note("BatchNormalization that left masked steps out of its statistics counts them in training now.")
    return (node, mask) if node.kind in _PASSED else (replace(node, mask=mask()), None)


def pass_on(walk: Walk, node: LayerNode, result: Held) -> Held:
    """Let the sequence that a recurrent layer ends in have the mask that the layer read."""
    if node.mask is not None:
        mask = node.mask
        walk.masks[result.value] = lambda: mask
    return result
