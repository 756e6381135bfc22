"""Layers that move, cut, pad, repeat and join."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.held import Held, Packing, channels_first, identity
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.walk import Walk

__all__ = ["INTERPOLATIONS", "cut", "flattened", "reshaped"]

_END = (1 << 63) - 1


@layer("Flatten")
def flatten(walk: Walk, node: LayerNode) -> Held:
    """All axes but the batch become one. What lies channels first stays so, and the next layer's weights follow."""
    return flattened(walk, node.input)


def flattened(walk: Walk, x: Held) -> Held:
    """Return (batch, features), in the order of the memory."""
    if x.rank == 2:
        return x
    if x.rank == 1:
        return walk.emit("Unsqueeze", [x.value, walk.ints([1], "axes")])
    free = [axis for axis in range(1, x.rank) if x.shape[axis] is None]
    real = [axis for axis in x.order if axis and x.shape[axis] != 1]
    if real != sorted(real) and (free or x.order[0] != 0):
        x = walk.plain(x)
        real = []
    result = walk.emit("Flatten", [x.value], identity(2), axis=1)
    return result if real == sorted(real) else Held(result.value, result.order, Packing(x))


@layer("Reshape")
def reshape(walk: Walk, node: LayerNode) -> Held:
    """Another shape behind the batch; -1 stands for what is left."""
    target = node.options.get("target_shape")
    if not isinstance(target, (list, tuple)) or any(not isinstance(n, int) or n < -1 for n in target):
        raise node.options.wrong("target_shape", "a list of whole numbers")
    return reshaped(walk, node.input, list(target))


def reshaped(walk: Walk, x: Held, target: list[int]) -> Held:
    """Return the tensor with ``target`` behind the batch."""
    target = _solved(x, target)
    if x.packing is None and _keeps_channels(x, target):
        order = channels_first(len(target) + 1)
        shape = [0, target[-1], *target[:-1]]
        return walk.emit("Reshape", [x.value, walk.ints(shape, "shape")], order)
    x = walk.plain(x)
    return walk.emit("Reshape", [x.value, walk.ints([0, *target], "shape")], identity(len(target) + 1))


def _solved(x: Held, target: list[int]) -> list[int]:
    """Return the target with its -1 as a number where the sizes are known."""
    sizes = x.shape[1:]
    if target.count(-1) > 1:
        raise ModelError(f"target_shape: got {target}, expected at most one -1")
    if None in sizes or -1 not in target:
        return target
    rest = math.prod(n for n in target if n != -1)
    total = math.prod(size or 0 for size in sizes)
    if not rest or total % rest:
        raise ModelError(f"target_shape: got {target} for sizes {list(sizes)}, which it does not divide")
    return [total // rest if n == -1 else n for n in target]


def _keeps_channels(x: Held, target: Sequence[int]) -> bool:
    """Whether the last axis stays as it is, so that what lies channels first can stay so."""
    if x.rank < 2 or not target or x.order != channels_first(x.rank) or x.shape[-1] != target[-1]:
        return False
    # a vector is channels first too, if nothing but axes of size 1 comes before its channels
    return x.rank > 2 or (len(target) > 1 and set(target[:-1]) == {1})


@layer("Permute")
def permute(walk: Walk, node: LayerNode) -> Held:
    """Another order of axes: nothing is moved until somebody needs it so."""
    x = node.input if node.input.packing is None else walk.plain(node.input)
    dims = node.options.integers("dims", x.rank - 1)
    if sorted(dims) != list(range(1, x.rank)):
        raise node.options.wrong("dims", f"an order of the axes 1 to {x.rank - 1}")
    return _reordered(x, [0, *dims])


def _reordered(x: Held, perm: Sequence[int]) -> Held:
    return Held(x.value, tuple(list(perm).index(axis) for axis in x.order))


@layer("RepeatVector")
def repeat_vector(walk: Walk, node: LayerNode) -> Held:
    """(batch, features) to (batch, n, features)."""
    x = walk.plain(node.input)
    longer = walk.emit("Unsqueeze", [x.value, walk.ints([1], "axes")])
    return walk.emit("Expand", [longer.value, walk.ints([1, node.options.integer("n"), 1], "shape")])


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(walk: Walk, node: LayerNode) -> Held:
    """Zeros around the spatial axes, wherever these lie."""
    x, pairs = _spatial_pairs(walk, node, "padding")
    begins = [before for before, _ in pairs]
    ends = [after for _, after in pairs]
    pads = walk.ints([begins[a] for a in x.order] + [ends[a] for a in x.order], "pads")
    return walk.same("Pad", x, pads)


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(walk: Walk, node: LayerNode) -> Held:
    """Less at the ends of the spatial axes."""
    x, pairs = _spatial_pairs(walk, node, "cropping")
    axes = [axis for axis, pair in enumerate(pairs) if any(pair)]
    return cut(walk, x, {axis: (pairs[axis][0], -pairs[axis][1] or _END, 1) for axis in axes})


def cut(walk: Walk, x: Held, parts: dict[int, tuple[int, int, int]]) -> Held:
    """Return start:stop:step of some of Keras's axes."""
    if not parts:
        return x
    starts, ends, steps = zip(*parts.values(), strict=True)
    axes = [x.axis(axis) for axis in parts]
    inputs = [walk.ints(starts, "starts"), walk.ints(ends, "ends"), walk.ints(axes, "axes")]
    if set(steps) != {1}:
        inputs.append(walk.ints(steps, "steps"))
    return walk.same("Slice", x, *inputs)


def _spatial_pairs(walk: Walk, node: LayerNode, key: str) -> tuple[Held, list[tuple[int, int]]]:
    """Return the input and, for each of Keras's axes, what is added or taken before and after."""
    rank = _rank(node)
    x = node.input
    if x.rank != rank + 2:
        raise ModelError(f"layer {node.name!r}: got an input of {x.rank} axes, expected {rank + 2}")
    pairs, none = node.options.pairs(key, rank), (0, 0)
    return x, [none, *pairs, none] if walk.channels_last(node) else [none, none, *pairs]


# between pixel centres; TensorFlow's cubic kernel is that of Keys 1981, leaves out what lies beyond the edge, and comes
# from a table of 1,024 places: only at places such as quarters are its numbers those of the formula
INTERPOLATIONS: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "bicubic": {
        **{"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
        **{"cubic_coeff_a": -0.5, "exclude_outside": 1},
    },
}


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(walk: Walk, node: LayerNode) -> Held:
    """Each place repeated, or in between by interpolation of pixel centres."""
    rank = _rank(node)
    x = walk.spatial(node.input, node, rank)
    scales = walk.constant([1, 1, *node.options.integers("size", rank, 2)], "scales")
    kind = node.options.choice("interpolation", "nearest", ("nearest", "bilinear", "bicubic"))
    if kind == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        how = INTERPOLATIONS[kind]
    return walk.emit("Resize", [x.value, None, scales], x.order, **how)


@layer("Concatenate")
def concatenate(walk: Walk, node: LayerNode) -> Held:
    """Join along one axis."""
    axis = node.options.integer("axis", -1, low=-16)
    return joined(walk, node.inputs, axis)


def joined(walk: Walk, tensors: list[Held], axis: int) -> Held:
    """Return the tensors one after the other along one of Keras's axes."""
    if not tensors:
        raise UnsupportedError("no inputs")
    if tensors[0].rank == 2 and any(x.packing for x in tensors):
        tensors = [walk.plain(x) for x in tensors]
    tensors = walk.aligned(tensors)
    return walk.emit("Concat", [x.value for x in tensors], tensors[0].order, axis=tensors[0].axis(axis))


def _rank(node: LayerNode) -> int:
    found = re.search(r"([123])D$", node.kind)
    assert found is not None
    return int(found[1])
