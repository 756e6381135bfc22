"""Operators that only rearrange: reshapes by MXNet's codes, transposes, joins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op

# a size of the result: a number, or the axis of the input that it is the free size of
_MAX_RANK = 16


@op("Flatten", "flatten")
def flatten(layer: Layer) -> ir.Value:
    return layer.final("Flatten", [layer.value(0)], axis=1)


@op("Reshape", "reshape")
def reshape(layer: Layer) -> ir.Value:
    """Shapes by the codes of ``InferReshapeShape`` in ``matrix_op-inl.h``."""
    x, get = layer.value(0), layer.attributes
    codes, backwards = list(get.integers("shape")), get.flag("reverse", False)
    old, keep = list(get.integers("target_shape", least=0)), get.flag("keep_highest", False)
    sizes = list(layer.sizes(x))
    if not codes and not old:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got no shape")
    if not codes:
        # the spelling of MXNet 0.5: a zero is what remains
        codes = [-1 if size == 0 else size for size in old]
        if keep:
            codes[0] = 0
    result = _result(layer, codes[::-1], sizes[::-1])[::-1] if backwards else _result(layer, codes, sizes)
    return layer.final("Reshape", [x, layer.ints(_spelled(layer, result, sizes, backwards), "shape")])


def _result(layer: Layer, codes: Sequence[int], sizes: Sequence[int | None]) -> list[int | str | None]:
    """Return the new sizes: numbers, "infer", or None for one that is free; each free size is named by its axis."""
    result: list[int | str | None] = []
    todo, at = list(codes), 0

    def take() -> int | str:
        nonlocal at
        if at >= len(sizes):
            raise ModelError(f"layer {layer.name!r} ({layer.op}): shape {tuple(codes)} does not fit {len(sizes)} axes")
        at += 1
        size = sizes[at - 1]
        return f"axis {at - 1}" if size is None else size

    while todo:
        code = todo.pop(0)
        if code == 0:
            result.append(take())
        elif code == -1:
            result.append("infer")
            at += 1
        elif code == -2:
            result += [take() for _ in range(at, len(sizes))]
        elif code == -3:
            result.append(_product(take(), take()))
        elif code == -4:
            if len(todo) < 2:
                raise ModelError(f"layer {layer.name!r} ({layer.op}): code -4 needs two sizes after it")
            result += _split(layer, take(), todo.pop(0), todo.pop(0))
        elif code > 0:
            result.append(code)
            at += 1
        else:
            raise ModelError(f"layer {layer.name!r} ({layer.op}): got {code} in a shape, expected -4 or more")
    if len(result) > _MAX_RANK:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got {len(result)} axes, expected at most {_MAX_RANK}")
    return result


def _product(left: int | str, right: int | str) -> int | str | None:
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    other = right if isinstance(left, str) else left
    return (left if isinstance(left, str) else right) if other == 1 else None


def _split(layer: Layer, size: int | str, left: int, right: int) -> list[int | str | None]:
    if (left, right) == (-1, -1) or min(left, right) < -1 or 0 in (left, right):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got -4, {left}, {right}, expected at most one -1")
    if isinstance(size, str):
        if left == 1:
            return [1, size]
        if right == 1:
            return [size, 1]
        return [None if n == -1 else n for n in (left, right)]
    left, right = (size // right if left == -1 else left), (size // left if right == -1 else right)
    if left * right != size:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): {size} does not split into {left} and {right}")
    return [left, right]


def _spelled(
    layer: Layer, result: Sequence[int | str | None], sizes: Sequence[int | None], backwards: bool
) -> list[int]:
    """Return the shape in ONNX's codes: 0 copies the size of the same axis, one -1 is what remains."""
    spelled: list[int | None] = []
    for axis, size in enumerate(result):
        if isinstance(size, int):
            spelled.append(size)
            continue
        source = int(size[5:]) if size is not None and size.startswith("axis") else None
        if source is not None and backwards:
            source = len(sizes) - 1 - source
        spelled.append(0 if source == axis else None)
    open_axes = [axis for axis, size in enumerate(spelled) if size is None]
    if len(open_axes) > 1:
        open_axes = _settle(layer, result, spelled, sizes)
    return [-1 if size is None else size for size in spelled]


def _settle(
    layer: Layer, result: Sequence[int | str | None], spelled: list[int | None], sizes: Sequence[int | None]
) -> list[int]:
    """Compute the size to infer, where the free sizes appear in the result as they are in the input."""
    infer = [axis for axis, size in enumerate(result) if size == "infer"]
    free = sum(size is None for size in sizes)
    others = [size for axis, size in enumerate(result) if axis not in infer]
    if len(infer) == 1 and sum(not isinstance(size, int) for size in others) == free == 1:
        known = math.prod(size for size in sizes if size is not None)
        rest = math.prod(size for size in others if isinstance(size, int))
        if rest and known % rest == 0:
            spelled[infer[0]] = known // rest
            return []
    raise Refused(f"a shape with more than one size that depends on the input: {tuple(result)}")


@op("reshape_like")
def reshape_like(layer: Layer) -> ir.Value:
    for key in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end"):
        if layer.attributes.maybe_integer(key) is not None:
            raise Refused(f"{key} is set")
    like = layer.step("Shape", [layer.value(1)], "shape")
    return layer.final("Reshape", [layer.value(0), like])


@op("transpose")
def transpose(layer: Layer) -> ir.Value:
    x = layer.value(0)
    rank = layer.rank(x)
    axes = [layer.axis(axis, rank) for axis in layer.attributes.integers("axes")] or list(range(rank))[::-1]
    if sorted(axes) != list(range(rank)):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): axes got {axes}, expected an order of {rank}")
    return layer.final("Transpose", [x], perm=axes)


@op("SwapAxis", "swapaxes")
def swap_axes(layer: Layer) -> ir.Value:
    x = layer.value(0)
    rank = layer.rank(x)
    order = list(range(rank))
    first, second = (layer.axis(layer.attributes.integer(key, 0), rank) for key in ("dim1", "dim2"))
    order[first], order[second] = second, first
    return layer.final("Transpose", [x], perm=order)


@op("expand_dims")
def expand_dims(layer: Layer) -> ir.Value:
    x = layer.value(0)
    axis = layer.axis(layer.attributes.integer("axis"), layer.rank(x) + 1)
    return layer.final("Unsqueeze", [x, layer.ints([axis], "axes")])


@op("squeeze")
def squeeze(layer: Layer) -> ir.Value:
    x = layer.value(0)
    rank, sizes = layer.rank(x), layer.sizes(x)
    given = layer.attributes.integers("axis")
    axes = sorted({layer.axis(axis, rank) for axis in given}) or [i for i, size in enumerate(sizes) if size == 1]
    if any(sizes[axis] not in (1, None) for axis in axes):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): axes {axes} of sizes {sizes} are not 1")
    if len(axes) == rank:
        # MXNet knows no tensor without axes
        return layer.final("Reshape", [x, layer.ints([1], "shape")])
    return layer.final("Squeeze", [x, layer.ints(axes, "axes")])


@op("Concat", "concat", "_rnn_param_concat")
def concat(layer: Layer) -> ir.Value:
    values = layer.values()
    if not values:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got no inputs")
    axis = layer.axis(layer.attributes.integer("dim", 1), layer.rank(values[0]))
    return layer.final("Concat", values, axis=axis)


@op("stack")
def stack(layer: Layer) -> ir.Value:
    values = layer.values()
    if not values:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got no inputs")
    axis = layer.axis(layer.attributes.integer("axis", 0), layer.rank(values[0]) + 1)
    axes = layer.ints([axis], "axes")
    parts = [layer.step("Unsqueeze", [value, axes], f"part{i}") for i, value in enumerate(values)]
    return layer.final("Concat", parts, axis=axis)


@op("tile")
def tile(layer: Layer) -> ir.Value:
    x, times = layer.value(0), list(layer.attributes.integers("reps", least=1))
    rank = layer.rank(x)
    if len(times) > rank:
        ahead = layer.ints(range(len(times) - rank), "axes")
        x = layer.step("Unsqueeze", [x, ahead], "wider")
    times = [1] * (rank - len(times)) + times
    return layer.final("Tile", [x, layer.ints(times, "repeats")])


@op("reverse", "flip")
def reverse(layer: Layer) -> ir.Value:
    x = layer.value(0)
    axes = [layer.axis(axis, layer.rank(x)) for axis in layer.attributes.integers("axis")]
    far = [-(2**31)] * len(axes)
    inputs = [layer.ints([-1] * len(axes), "starts"), layer.ints(far, "ends"), layer.ints(axes, "axes")]
    return layer.final("Slice", [x, *inputs, layer.ints([-1] * len(axes), "steps")])


@op("depth_to_space")
def depth_to_space(layer: Layer) -> ir.Value:
    size = layer.attributes.integer("block_size", least=1)
    return layer.final("DepthToSpace", [layer.value(0)], blocksize=size, mode="DCR")


@op("space_to_depth")
def space_to_depth(layer: Layer) -> ir.Value:
    return layer.final("SpaceToDepth", [layer.value(0)], blocksize=layer.attributes.integer("block_size", least=1))


@op("broadcast_to")
def broadcast_to(layer: Layer) -> ir.Value:
    """A zero keeps the size."""
    x, shape = layer.value(0), layer.attributes.integers("shape", least=0)
    if len(shape) != layer.rank(x):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): shape {shape} of a tensor of {layer.rank(x)} axes")
    return layer.final("Expand", [x, layer.ints([size or 1 for size in shape], "shape")])


@op("broadcast_axis", "broadcast_axes")
def broadcast_axis(layer: Layer) -> ir.Value:
    x = layer.value(0)
    axes, sizes = layer.attributes.integers("axis"), layer.attributes.integers("size", least=1)
    shape = [1] * layer.rank(x)
    if len(axes) != len(sizes):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): axis {axes} and size {sizes} differ in length")
    for axis, size in zip(axes, sizes, strict=True):
        shape[layer.axis(axis, len(shape))] = size
    return layer.final("Expand", [x, layer.ints(shape, "shape")])


@op("broadcast_like")
def broadcast_like(layer: Layer) -> ir.Value:
    if any(layer.attributes.maybe_integers(key) is not None for key in ("lhs_axes", "rhs_axes")):
        raise Refused("axes of its own")
    like = layer.step("Shape", [layer.value(1)], "shape")
    return layer.final("Expand", [layer.value(0), like])
