"""Fixing what a graph leaves free: sizes of its inputs become numbers, wherever the graph names them.

An engine may have to know a size while it builds the network, or a network may only make sense at one size. What
computes stays as it is; canonical form then folds what follows from the sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.errors import InputError, UnknownNameError
from portnet.graph.passes.rewrite import every_node
from portnet.graph.passes.shapes import infer_shapes

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["Sizes", "fix_shapes"]

# sizes of an input, None for what stays as it is; or one number for a size that has a name
Sizes = Sequence[int | None] | int
# no axis of any framework is longer
LARGEST = 2**31 - 1


def fix_shapes(model: Model, shapes: Mapping[str, Sizes]) -> Model:
    """Return a copy whose inputs have sizes that the graph leaves free; weight arrays are shared with it.

    A size that has a name is fixed wherever that name stands.

    >>> fix_shapes(model, {"x": (None, 3, 224, 224)}).inputs[0].shape  # doctest: +SKIP
    ('batch', 3, 224, 224)
    >>> fix_shapes(model, {"height": 224, "width": 224}).inputs[0].shape  # doctest: +SKIP
    ('batch', 3, 224, 224)

    Args:
        model: the network; not changed.
        shapes: sizes by input name, None for a size that stays as it is, or a number by the name of a free size.

    Raises:
        UnknownNameError: neither an input nor a free size has that name.
        InputError: another rank, a size that the network fixes otherwise, or no size at all.
    """
    copy = model.copy()
    inputs = {port.name: value for port in copy.inputs for value in copy.ir.graph.inputs if value.name == port.name}
    dims = [dim for value in inputs.values() for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)]
    names = {dim.value for dim in dims if dim.value not in (None, "?")}
    fixed: dict[str, int] = {}
    for name, sizes in shapes.items():
        if name in inputs:
            _fix_input(inputs[name], sizes, fixed)
        elif name in names and not isinstance(sizes, Sequence):
            _agree(fixed, name, _size(f"size {name!r}", sizes))
        else:
            raise UnknownNameError("input or free size", name, [*inputs, *sorted(map(str, names))])
    for node in every_node(copy.ir.graph):
        for value in node.outputs:
            value.shape = _still_true(value, fixed, forget=node.domain == "")
    for value in inputs.values():
        value.shape = _still_true(value, fixed, forget=False)
    infer_shapes(copy.ir)
    return copy


def _fix_input(value: ir.Value, sizes: Sizes, fixed: dict[str, int]) -> None:
    """Write the sizes into an input's shape, and into ``fixed`` those that have names."""
    what = f"shape of {value.name!r}"
    if isinstance(sizes, int) and value.shape is not None and len(value.shape) == 1:
        sizes = (sizes,)
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise InputError(f"{what}: got {sizes!r}, expected a size for each axis, e.g. (None, 3, 224, 224)")
    if not isinstance(value.type, ir.TensorType):
        raise InputError(f"{what}: got {tuple(sizes)}, but it is no tensor")
    old = value.shape if value.shape is not None else ir.Shape([None] * len(sizes))
    if len(old) != len(sizes):
        raise InputError(f"{what}: got {len(sizes)} sizes, expected {len(old)}: {_written(old)}")
    new: list[int | ir.SymbolicDim] = list(old)
    for axis, (dim, size) in enumerate(zip(old, sizes, strict=True)):
        if size is None:
            continue
        new[axis] = size = _size(f"{what}, axis {axis}", size)
        if isinstance(dim, int) and dim != size:
            raise InputError(f"{what}, axis {axis}: got {size}, expected {dim}: the network fixes it")
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
            _agree(fixed, dim.value, size)
    value.shape = ir.Shape(new)


def _size(what: str, size: object) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__") or not 0 < size.__index__() <= LARGEST:
        raise InputError(f"{what}: got {size!r}, expected a number from 1 to {LARGEST}")
    return int(size.__index__())


def _agree(fixed: dict[str, int], name: str, size: int) -> None:
    if fixed.setdefault(name, size) != size:
        raise InputError(f"size {name!r}: got {size} and {fixed[name]}, expected one number")


def _written(shape: ir.Shape) -> str:
    return ", ".join(str(dim) if isinstance(dim, int) else dim.value or "?" for dim in shape)


def _still_true(value: ir.Value, fixed: Mapping[str, int], forget: bool) -> ir.Shape | None:
    """Return a recorded shape with the fixed sizes in it; numbers that were recorded may be of other sizes."""
    if value.shape is None:
        return None
    sizes: list[int | str | None] = []
    for dim in value.shape:
        if isinstance(dim, int):
            sizes.append(None if forget else dim)
        else:
            sizes.append(fixed.get(dim.value or "", dim.value))
    return ir.Shape(sizes)
