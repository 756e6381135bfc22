"""Names for nodes and tensors: the path of the module that they come from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from portnet.graph.layers import STAGE_MARK
from portnet.graph.names import take_name

__all__ = ["Places", "name_layers", "set_stages"]

# what the exporter calls the module of an operation that belongs to none
_OUTSIDE = "_empty_nn_module_stack_from_metadata_hook"
# a stage that holds more than this share of the layers with weights is none
_LARGEST_STAGE = 0.6


class Places:
    """Where each tensor of a captured graph is found again in torch.

    Attributes:
        traced: name of the traced program's node by the tensor's name.
        modules: (path of a module, how many calls came before) by the tensor's name, where it is what that call gave.
    """

    def __init__(self) -> None:
        self.traced: dict[str, str] = {}
        self.modules: dict[str, tuple[str, int]] = {}


def name_layers(graph: ir.Graph, leaves: Iterable[str]) -> Places:
    """Name nodes and their tensors after modules: ``layer1.0.conv1``, and ``layer1.0.relu_2`` for its second call.

    What a module without submodules gives bears its path. Other tensors add the operation's name: ``layer1.0.add``.
    Nodes that are only on the way to one of torch's operations are called ``layer/Op``.

    Args:
        graph: as torch's exporter wrote it; its tensors bear the names of the traced program's nodes.
        leaves: paths of the modules without submodules.
    """
    origins = {node: _origin(node) for node in graph}
    last = {origin.call: origin.operation for origin in origins.values() if origin}
    names, places, calls = _Names(graph), Places(), Counter[str]()
    known, labels = set(leaves), dict[_Origin, str]()
    for origin in origins.values():
        if origin is None or origin in labels:
            continue
        is_module = origin.path in known and last[origin.call] == origin.operation
        base = origin.path if is_module else _joined(origin.path, _without_number(origin.operation))
        labels[origin] = names.fresh(base or "value")
        if is_module:
            places.modules[labels[origin]] = (origin.path, calls[origin.path])
            calls[origin.path] += 1
    _rename(graph, origins, labels, names, places)
    return places


@dataclass(frozen=True)
class _Origin:
    """Where a node comes from: operation of the traced program, path of the module, and which call of it."""

    operation: str
    path: str
    call: str


def _origin(node: ir.Node) -> _Origin | None:
    traced = node.meta.get("node")
    if traced is None:
        return None
    stack = traced.meta.get("nn_module_stack") or {}
    key, (path, _) = next(reversed(stack.items()), ("", ("", None)))
    if path == _OUTSIDE:
        path = ""
    return _Origin(traced.name, path, key if path else traced.name)


def _rename(
    graph: ir.Graph,
    origins: dict[ir.Node, _Origin | None],
    labels: dict[_Origin, str],
    names: _Names,
    places: Places,
) -> None:
    final = {origin: node for node, origin in origins.items() if origin is not None}
    for node, origin in origins.items():
        if origin is None:
            continue
        label, is_final = labels[origin], final[origin] is node
        node.name = label if is_final else names.fresh(f"{label}/{node.op_type}")
        for index, output in enumerate(node.outputs):
            traced = output.name or ""
            output.name = (node.name if index == 0 else names.fresh(f"{node.name}.{index}")) if traced else ""
            if is_final and traced:
                places.traced[output.name] = traced


def _without_number(operation: str) -> str:
    """Return an operation's name without what made it unique: ``add`` for ``add_3``, ``relu`` for ``relu__1``."""
    return re.sub(r"_*(_\d+)?_*$", "", operation.lstrip("_")) or operation


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class _Names:
    """Gives names that no input, weight or other layer has."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {value.name or "" for value in graph.inputs} | set(graph.initializers)

    def fresh(self, base: str) -> str:
        """Return ``base``, or ``base_2``, ``base_3``, ... where it is taken."""
        return take_name(base, self._taken)


def set_stages(graph: ir.Graph) -> None:
    """Mark each node with its stage: the first part of its path, or as many as keep a stage from being the network.

    ``layer1`` of ResNet, ``features.3`` of MobileNet, ``encoder.layers.encoder_layer_3`` of a vision transformer.
    """
    paths = {node: (node.name or "").split("/")[0] for node in graph}
    weighted = [paths[node] for node in graph if any(value in graph.initializers.values() for value in node.inputs)]
    depths = dict.fromkeys([""], 1)
    prefix = ""
    while True:
        below = [path for path in weighted if path.startswith(prefix)]
        groups = Counter(_part(path, prefix) for path in below)
        if not groups:
            break
        largest, count = groups.most_common(1)[0]
        deeper = f"{prefix}{largest}."
        if (
            len(groups) > 4
            or count <= _LARGEST_STAGE * len(weighted)
            or not any(p.startswith(deeper) for p in weighted)
        ):
            break
        depths[deeper] = deeper.count(".") + 1
        prefix = deeper
    for node, path in paths.items():
        depth = max(depth for start, depth in depths.items() if path.startswith(start))
        node.metadata_props[STAGE_MARK] = ".".join(path.split(".")[:depth])


def _part(path: str, prefix: str) -> str:
    return path[len(prefix) :].split(".")[0]
