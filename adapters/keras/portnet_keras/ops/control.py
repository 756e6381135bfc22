"""Control flow: what is decided while the network is built is written out; a branch may be chosen while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.lowering import Lowering, NodeView
from portnet_keras.framework import ops
from portnet_keras.layout import KValue, identity
from portnet_keras.ops.registry import op

__all__: list[str] = []

MAX_STEPS = 256
MAX_CHEAP = 4


@op("If")
def if_(walk: Any, node: NodeView) -> list[KValue]:
    """The branch that a condition chooses; of a computed one, both branches are computed and one is kept."""
    condition = walk.try_host(node.required(0))
    if condition is not None:
        return walk.branch(node["then_branch" if condition.array.item() else "else_branch"], [])
    graphs = [node["then_branch"], node["else_branch"]]
    if all(_is_cheap(walk, graph) for graph in graphs) and _fixed_shapes(graphs[0]) == _fixed_shapes(graphs[1]):
        chosen = ops.reshape(walk.plain(node.required(0)), ())
        branches = [walk.branch(graph, []) for graph in graphs]
        return [_kept(walk, chosen, a, b) for a, b in zip(*branches, strict=True)]
    from portnet_keras.branching import either  # it lowers with this table

    return either(walk, node.required(0), graphs, node.name)


def _is_cheap(walk: Any, graph: ir.Graph) -> bool:
    """Whether a branch may be computed though it is not chosen: a few nodes without weights, of fixed shapes."""
    nodes = list(graph)
    if len(nodes) > MAX_CHEAP or any(node.op_type in ("If", "Loop", "Scan") for node in nodes):
        return False
    names = [value.name or "" for node in nodes for value in node.inputs if value is not None]
    return _fixed_shapes(graph) is not None and not any(
        walk.roles[name].trainable for name in names if name in walk.roles
    )


def _fixed_shapes(graph: ir.Graph) -> list[tuple[int, ...]] | None:
    """Shapes of a graph's outputs, or None where one is not fixed."""
    shapes = [Lowering.static_shape(value) for value in graph.outputs]
    if any(not isinstance(value.type, ir.TensorType) for value in graph.outputs):
        return None
    known = [shape for shape in shapes if shape is not None and None not in shape]
    return known if len(known) == len(shapes) else None  # type: ignore[return-value]


def _kept(walk: Any, condition: Any, a: KValue, b: KValue) -> KValue:
    order = b.order if a.is_constant else a.order
    return KValue(ops.where(condition, walk.ordered(a, order), walk.ordered(b, order)), order)


@op("Loop")
def loop(walk: Any, node: NodeView) -> list[KValue]:
    """Steps of a known count, as long as a known condition holds."""
    body = node["body"]
    trips = MAX_STEPS + 1 if node.input(0) is None else int(walk.host(node.input(0)).item())
    goes_on = True if node.input(1) is None else bool(walk.host(node.input(1)).item())
    carried = [walk.value(value) for value in node.inputs[2:]]
    scanned: list[list[KValue]] = [[] for _ in body.outputs[1 + len(carried) :]]
    step = 0
    while goes_on and step < trips:
        if step == MAX_STEPS:
            raise walk.unsupported(f"more than {MAX_STEPS} steps")
        index, condition = (KValue(np.array(n), ()) for n in (np.int64(step), np.bool_(True)))
        condition, *results = walk.branch(body, [index, condition, *carried])
        if not condition.is_constant:
            raise walk.unsupported("a condition that is computed from the inputs")
        goes_on, step = bool(condition.data.item()), step + 1
        carried = results[: len(carried)]
        for entries, result in zip(scanned, results[len(carried) :], strict=True):
            entries.append(result)
    return [*carried, *(_stacked(walk, entries, 0) for entries in scanned)]


def _stacked(walk: Any, entries: Sequence[KValue], axis: int) -> KValue:
    if not entries:
        raise walk.unsupported("a loop of no steps that collects results")
    tensors = [walk.ordered(entry, identity(entry.rank)) for entry in entries]
    return KValue(walk.known(ops.stack(tensors, axis=axis)), identity(entries[0].rank + 1))


@op("Scan")
def scan(walk: Any, node: NodeView) -> list[KValue]:
    """Steps over the entries of tensors."""
    body, count = node["body"], node["num_scan_inputs"]
    states = [walk.value(value) for value in node.inputs[:-count]]
    sources = [walk.plain(value) for value in node.inputs[-count:]]
    axes = node.get("scan_input_axes") or [0] * count
    backwards = node.get("scan_input_directions") or [0] * count
    length = sources[0].shape[axes[0]]
    if length is None or length > MAX_STEPS:
        raise walk.unsupported(f"{length} steps; expected a known count of at most {MAX_STEPS}")
    outputs = len(body.outputs) - len(states)
    scanned: list[list[KValue]] = [[] for _ in range(outputs)]
    for step in range(length):
        places = [length - 1 - step if back else step for back in backwards]
        entries = [_entry(walk, x, place, axis) for x, place, axis in zip(sources, places, axes, strict=True)]
        results = walk.branch(body, [*states, *entries])
        states = results[: len(states)]
        for collected, result in zip(scanned, results[len(states) :], strict=True):
            collected.append(result)
    turned = node.get("scan_output_directions") or [0] * outputs
    out_axes = node.get("scan_output_axes") or [0] * outputs
    ordered = [list(reversed(entries)) if back else entries for entries, back in zip(scanned, turned, strict=True)]
    return [*states, *(_stacked(walk, e, axis) for e, axis in zip(ordered, out_axes, strict=True))]


def _entry(walk: Any, x: Any, place: int, axis: int) -> KValue:
    data = walk.known(ops.take(x, place, axis=axis))
    return KValue(data, identity(len(data.shape)))
