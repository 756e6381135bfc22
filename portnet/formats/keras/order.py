"""The order in which a network's layers are called."""

from __future__ import annotations

import heapq
from graphlib import CycleError, TopologicalSorter

from portnet.errors import ModelError
from portnet.formats.keras.config import NetworkConfig

__all__ = ["ordered_calls"]


def ordered_calls(config: NetworkConfig) -> list[tuple[str, int]]:
    """Return the calls that the outputs depend on, each after those that it reads: (layer, call).

    Raises:
        ModelError: a tensor that nothing gives, or layers that go in a circle.
    """
    layers = {layer.name: layer for layer in config.layers}
    before: dict[tuple[str, int], list[tuple[str, int]]] = {}
    pending = [(ref.layer, ref.node) for ref in config.outputs]
    ends = {(ref.layer, ref.node) for ref in config.inputs}
    while pending:
        key = pending.pop()
        if key in before:
            continue
        name, index = key
        layer = layers.get(name)
        if layer is None or index >= max(len(layer.calls), 1):
            raise ModelError(f"network {config.name!r}: nothing gives the tensor of call {index} of layer {name!r}")
        calls = layer.calls if key not in ends else []
        before[key] = [(ref.layer, ref.node) for ref in calls[index].refs()] if calls else []
        pending += before[key]
    sorter, places = TopologicalSorter(before), {layer.name: i for i, layer in enumerate(config.layers)}
    try:
        sorter.prepare()
    except CycleError as error:
        raise ModelError(f"network {config.name!r}: its layers go in a circle") from error
    ready: list[tuple[int, int, str]] = []
    found = []
    while sorter.is_active():
        for name, index in sorter.get_ready():
            heapq.heappush(ready, (places[name], index, name))
        _, index, name = heapq.heappop(ready)
        found.append((name, index))
        sorter.done((name, index))
    return found
