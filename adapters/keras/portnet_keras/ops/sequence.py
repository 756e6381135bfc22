"""Sequences, as Python lists while the network is built."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, identity
from portnet_keras.ops.registry import op

__all__: list[str] = []


def _sequence(items: list[Any]) -> KValue:
    return KValue(items, ())


def _items(walk: Any, value: Any) -> list[KValue]:
    found = walk.value(value).data
    if not isinstance(found, list):
        raise walk.unsupported("a sequence that is an input of the network")
    return found


def _tensor(walk: Any, value: Any) -> KValue:
    return walk.value(value)


def _position(walk: Any, value: Any, default: int) -> int:
    return default if value is None else int(walk.host(value).item())


@op("SequenceEmpty")
def sequence_empty(walk: Any, node: NodeView) -> KValue:
    """No tensors."""
    return _sequence([])


@op("SequenceConstruct")
def sequence_construct(walk: Any, node: NodeView) -> KValue:
    """Some tensors."""
    return _sequence([_tensor(walk, value) for value in node.inputs])


@op("SequenceAt")
def sequence_at(walk: Any, node: NodeView) -> KValue:
    """One tensor of a sequence."""
    return _items(walk, node.required(0))[_position(walk, node.input(1), 0)]


@op("SequenceLength")
def sequence_length(walk: Any, node: NodeView) -> Any:
    """Count of tensors."""
    return np.array(len(_items(walk, node.required(0))), np.int64)


@op("SequenceInsert")
def sequence_insert(walk: Any, node: NodeView) -> KValue:
    """A sequence with one tensor more."""
    items = list(_items(walk, node.required(0)))
    items.insert(_position(walk, node.input(2), len(items)), _tensor(walk, node.required(1)))
    return _sequence(items)


@op("SequenceErase")
def sequence_erase(walk: Any, node: NodeView) -> KValue:
    """A sequence with one tensor less."""
    items = list(_items(walk, node.required(0)))
    del items[_position(walk, node.input(1), -1)]
    return _sequence(items)


@op("ConcatFromSequence")
def concat_from_sequence(walk: Any, node: NodeView) -> Any:
    """Join the tensors of a sequence along an old or a new axis."""
    tensors = [walk.ordered(item, identity(item.rank)) for item in _items(walk, node.required(0))]
    join = ops.stack if node["new_axis"] else ops.concatenate
    return join(tensors, axis=node["axis"])


@op("SplitToSequence")
def split_to_sequence(walk: Any, node: NodeView) -> KValue:
    """Cut a tensor into a sequence along an axis."""
    x = walk.plain(node.required(0))
    axis = node["axis"] % len(x.shape)
    size = x.shape[axis]
    if size is None:
        raise walk.unsupported("a free size")
    given = None if node.input(1) is None else walk.host(node.input(1))
    step = 1 if given is None else int(given.item()) if given.ndim == 0 else None
    cuts = list(range(step, size, step)) if step else [int(n) for n in np.cumsum(given)[:-1]]
    parts = ops.split(x, cuts, axis=axis) if cuts else [x]
    squeezed = given is None and not node["keepdims"]
    made = [ops.squeeze(part, axis) if squeezed else part for part in parts]
    known = [part if isinstance(part, keras.KerasTensor) else ops.convert_to_numpy(part) for part in made]
    return _sequence([KValue(part, identity(len(part.shape))) for part in known])


@op("OptionalHasElement")
def optional_has_element(walk: Any, node: NodeView) -> Any:
    """Whether there is a value: known from the graph."""
    return np.array(node.input(0) is not None)


@op("Optional", "OptionalGetElement")
def optional(walk: Any, node: NodeView) -> KValue:
    """The value itself."""
    return walk.value(node.required(0))
