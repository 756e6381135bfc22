"""Names of operations, which a functional model wants to be distinct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from portnet_keras.framework import keras
from portnet_keras.layout import KValue

if TYPE_CHECKING:
    from portnet_keras.lower import KerasLowering

__all__ = ["distinct_names"]


def distinct_names(walk: KerasLowering, outputs: Sequence[KValue]) -> None:
    """Rename operations that Keras named itself and that bear a name from the graph."""
    names: set[str] = set()
    operations = _operations(outputs)
    walk.names.update(operation.name for operation in operations)  # a new name is none that Keras gave either
    for operation in sorted(operations, key=lambda made: not isinstance(made, keras.layers.Layer)):
        if operation.name in names:
            operation.name = walk.name(operation.name)
        names.add(operation.name)


def _operations(outputs: Sequence[KValue]) -> list[Any]:
    """Return every operation that the outputs are computed by."""
    found: dict[int, Any] = {}
    pending = [value.data for value in outputs]
    seen: set[int] = set()
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        history = tensor._keras_history
        found[id(history.operation)] = history.operation
        pending += history.operation._inbound_nodes[history.node_index].input_tensors
    return list(found.values())
