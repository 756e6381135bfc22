"""Pooling over windows and over everything."""

from __future__ import annotations

import re

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.convolution import padding_of
from portnet.formats.keras.layers.masking import mean_over_steps
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_NAMES = [f"{what}{form}{rank}D" for what in ("Max", "Average") for form in ("Pooling", "Pool") for rank in (1, 2, 3)]


@layer(*_NAMES)
def pool(walk: Walk, node: LayerNode) -> Held:
    """Windows; padding does not count, neither for the largest nor for the mean."""
    rank = _rank(node)
    x = walk.spatial(node.input, node, rank)
    window = node.options.integers("pool_size", rank, 2)
    strides = node.options.integers("strides", rank) if "strides" in node.options else window
    attributes = padding_of(node, x, window, strides)
    op = "MaxPool" if node.kind.startswith("Max") else "AveragePool"
    return walk.emit(op, [x.value], x.order, "pool", kernel_shape=window, strides=strides, **attributes)


@layer(*(f"Global{name}" for name in _NAMES))
def global_pool(walk: Walk, node: LayerNode) -> Held:
    """The largest or the mean over all places."""
    rank, x = _rank(node), node.input
    mean = "Average" in node.kind
    keeps = node.options.flag("keepdims")
    if node.mask is not None:
        if keeps:
            raise UnsupportedError("keepdims and a mask")
        return mean_over_steps(walk, x, node.mask)
    if rank == x.rank - 2 == 1 and x.order[-1] == 2 and walk.channels_last(node):
        # a sequence need not be moved for it
        op, axes = "ReduceMean" if mean else "ReduceMax", walk.ints([x.axis(1)], "axes")
        return walk.emit(op, [x.value, axes], x.order if keeps else identity(2), "pool", keepdims=int(keeps))
    x = walk.spatial(x, node, rank)
    result = walk.emit("GlobalAveragePool" if mean else "GlobalMaxPool", [x.value], x.order, "pool")
    return result if keeps else walk.emit("Flatten", [result.value], axis=1)


@layer("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D")
def adaptive_pool(walk: Walk, node: LayerNode) -> Held:
    """Windows of one size where the sizes divide."""
    rank = _rank(node)
    x = walk.spatial(node.input, node, rank)
    wanted = node.options.integers("output_size", rank)
    sizes = [x.size(axis, f"layer {node.name!r}") for axis in x.order[2:]]
    if any(size % n for size, n in zip(sizes, wanted, strict=True)):
        raise UnsupportedError(f"output_size {wanted} of sizes {sizes}")
    window = [size // n for size, n in zip(sizes, wanted, strict=True)]
    op = "MaxPool" if "Max" in node.kind else "AveragePool"
    return walk.emit(op, [x.value], x.order, "pool", kernel_shape=window, strides=window)


def _rank(node: LayerNode) -> int:
    found = re.search(r"([123])D$", node.kind)
    assert found is not None
    return int(found[1])
