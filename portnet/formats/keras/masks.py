"""Masks of padding: which steps of a sequence count.

An Embedding with ``mask_zero`` and a Masking layer give one, layers pass it on with the tensor, and recurrent layers
read it. Keras 3 writes it into the network as an argument; Keras 2, and lists of layers, leave it unsaid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held

if TYPE_CHECKING:
    from portnet.formats.keras.node import LayerNode
    from portnet.formats.keras.walk import Walk

__all__ = ["Mask", "mask_of", "pass_on", "take_mask"]

# (batch, steps) of truths, written when somebody reads it
Mask = Callable[[], Held]

_RECURRENT = {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"}
_READ = _RECURRENT | {"GlobalAveragePooling1D", "Softmax"}
_PASSED = {
    *("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"),
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Dense", "Rescaling", "Identity"),
    *("BatchNormalization", "LayerNormalization", "UnitNormalization", "GroupNormalization", "Normalization"),
}
# layers without masks: Keras drops it there, with a warning
_DROPPED = {
    *("Flatten", "Reshape", "Permute", "RepeatVector", "ZeroPadding1D", "UpSampling1D", "Cropping1D"),
    *("Conv1D", "SeparableConv1D", "MaxPooling1D", "AveragePooling1D", "GlobalMaxPooling1D", "Embedding", "Dot"),
    *("Conv1DTranspose", "DepthwiseConv1D", "AdaptiveAveragePooling1D", "AdaptiveMaxPooling1D", "EinsumDense"),
    *("RMSNormalization", "SpectralNormalization", "CategoryEncoding", "Discretization"),
}
# a mask for each of their inputs, which they find with `mask_of`
_OWN = {"Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"}
_MERGED = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"}


def take_mask(walk: Walk, node: LayerNode) -> tuple[LayerNode, Mask | None]:
    """Find the mask that a layer gets, among its arguments or with what it reads.

    Returns:
        The layer without that argument, its ``mask`` set where it reads one; and the mask that it only passes on.

    Raises:
        UnsupportedError: the layer reads the mask, and its translation does not.
    """
    if node.kind in _OWN:
        return node, None
    if node.kind in _MERGED:
        return node, _merged(walk, node)
    told = node.kwargs.get("mask")
    unsaid = [walk.masks[held.value] for held in node.inputs if held.value in walk.masks]
    # operators of Keras 3 hand no mask on, layers without masks drop them
    if (told is None and not unsaid) or node.kind in _DROPPED or node.kind.startswith("ops."):
        return node, None
    passed = node.kind in _PASSED or _is_passed_by_step(node)
    if not (passed or node.kind in _READ) or not (told is None or isinstance(told, Held)):
        raise UnsupportedError("a mask")
    mask: Mask = (lambda: told) if isinstance(told, Held) else unsaid[0]
    node = replace(node, kwargs={name: value for name, value in node.kwargs.items() if name != "mask"})
    if node.kind == "BatchNormalization":
        walk.note("BatchNormalization that left masked steps out of its statistics counts them in training now.")
    return (node, mask) if passed else (replace(node, mask=mask()), None)


def _is_passed_by_step(node: LayerNode) -> bool:
    """Whether a layer applies another one to each step that does not ask which steps count."""
    inner = node.options.get("layer")
    if node.kind != "TimeDistributed" or not isinstance(inner, Mapping):
        return False
    return inner.get("class_name") in _PASSED | _DROPPED | {"Conv2D", "MaxPooling2D", "AveragePooling2D"}


def mask_of(walk: Walk, x: Held | None, told: Any = None) -> Mask | None:
    """Return the mask that a layer gets for one of its inputs: what it was told, or what comes with the tensor."""
    if isinstance(told, Held):
        return lambda: told
    return None if x is None else walk.masks.get(x.value)


def _merged(walk: Walk, node: LayerNode) -> Mask | None:
    """Return the mask behind a layer of several inputs.

    In Keras 3 a step counts if it does in one input, and none is left out where an input has no mask; in Keras 2 it
    counts if it does in all that have one. Joined behind each other, steps keep their masks.
    """
    found = [walk.masks.get(held.value) for held in node.inputs]
    given = [mask for mask in found if mask is not None]
    rank = node.inputs[0].rank
    axis = node.options.axes("axis", -1)[0] % rank if node.kind == "Concatenate" else rank - 1
    if not given or (len(given) < len(found) and (not walk.keras2 or axis != rank - 1)):
        if given and axis == 1:
            raise UnsupportedError("a mask of some of its inputs")
        return None
    if axis == rank - 1:
        op = "And" if walk.keras2 else "Or"
        return lambda: _folded(walk, op, [mask() for mask in given])
    if axis == 1:
        return lambda: _joined(walk, [mask() for mask in given])
    raise UnsupportedError("a mask")


def _folded(walk: Walk, op: str, masks: list[Held]) -> Held:
    total = masks[0]
    for mask in masks[1:]:
        total = walk.same(op, total, walk.arranged(mask, total.order).value, what="mask")
    return total


def _joined(walk: Walk, masks: list[Held]) -> Held:
    return walk.emit("Concat", [walk.plain(mask).value for mask in masks], what="mask", axis=1)


def pass_on(walk: Walk, node: LayerNode, result: Held) -> Held:
    """Let the sequence that a recurrent layer ends in have the mask that the layer read."""
    if node.mask is not None:
        mask = node.mask
        walk.masks[result.value] = lambda: mask
    return result
