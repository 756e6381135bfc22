"""Control flow: what is decided while the network is built is written out; a branch may be chosen while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.lowering import Lowering, NodeView
from portnet_keras.framework import ops
from portnet_keras.layout import KValue, identity
from portnet_keras.ops.registry import op

__all__: list[str] = []

MAX_STEPS = 256
# more nodes than this are not written out where a step can be a network of its own
MAX_NODES = 256
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
    """A few steps of a known count are written out; others are counted while the network runs."""
    known = [None if value is None else walk.try_host(value) for value in (node.input(0), node.input(1))]
    is_known = all(
        v is None or (k is not None and not k.is_symbolic) for v, k in zip(node.inputs[:2], known, strict=True)
    )
    trips = int(known[0].array.item()) if is_known and known[0] is not None else MAX_STEPS + 1
    goes_on = bool(known[1].array.item()) if is_known and known[1] is not None else True
    holds_sequences = any(isinstance(walk.value(value).data, list) for value in node.inputs[2:])
    if is_known and (holds_sequences or trips * len(node["body"]) <= MAX_NODES or node.input(0) is None):
        try:
            return _written_out(walk, node, trips, goes_on)
        except _CountedError as error:
            if holds_sequences:
                raise walk.unsupported(str(error)) from error
    try:
        return _counted(walk, node)
    except UnsupportedError:
        if not is_known or trips > MAX_STEPS:
            raise
        return _written_out(walk, node, trips, goes_on)


class _CountedError(Exception):
    """Steps that cannot be counted while the network is built."""


def _written_out(walk: Any, node: NodeView, trips: int, goes_on: bool) -> list[KValue]:
    body = node["body"]
    carried = [walk.value(value) for value in node.inputs[2:]]
    scanned: list[list[KValue]] = [[] for _ in body.outputs[1 + len(carried) :]]
    step = 0
    while goes_on and step < trips:
        if step == MAX_STEPS:
            raise _CountedError(f"more than {MAX_STEPS} steps")
        index, condition = (KValue(np.array(n), ()) for n in (np.int64(step), np.bool_(True)))
        condition, *results = walk.branch(body, [index, condition, *carried], repeated=True)
        if not condition.is_constant:
            raise _CountedError("a condition that is computed from the inputs")
        goes_on, step = bool(condition.data.item()), step + 1
        carried = results[: len(carried)]
        for entries, result in zip(scanned, results[len(carried) :], strict=True):
            entries.append(result)
    return [*carried, *(_stacked(walk, entries, 0) for entries in scanned)]


def _counted(walk: Any, node: NodeView) -> list[KValue]:
    from portnet_keras.repeating import repeat  # it lowers with this table

    limit, goes_on = node.inputs[:2]
    results = repeat(
        walk,
        node["body"],
        walk.symbolic(np.array(np.iinfo(np.int64).max) if limit is None else walk.plain(limit)),
        walk.symbolic(np.array(True) if goes_on is None else walk.plain(goes_on)),
        [walk.plain(value) for value in node.inputs[2:]],
        [],
        node.name,
    )
    return [KValue(result, identity(len(result.shape))) for result in results]


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
    if length is None or length * len(body) > MAX_NODES:
        return _counted_scan(walk, node, sources)
    outputs = len(body.outputs) - len(states)
    scanned: list[list[KValue]] = [[] for _ in range(outputs)]
    for step in range(length):
        places = [length - 1 - step if back else step for back in backwards]
        entries = [_entry(walk, x, place, axis) for x, place, axis in zip(sources, places, axes, strict=True)]
        results = walk.branch(body, [*states, *entries], repeated=True)
        states = results[: len(states)]
        for collected, result in zip(scanned, results[len(states) :], strict=True):
            collected.append(result)
    turned = node.get("scan_output_directions") or [0] * outputs
    out_axes = node.get("scan_output_axes") or [0] * outputs
    ordered = [list(reversed(entries)) if back else entries for entries, back in zip(scanned, turned, strict=True)]
    return [*states, *(_stacked(walk, e, axis) for e, axis in zip(ordered, out_axes, strict=True))]


def _counted_scan(walk: Any, node: NodeView, sources: list[Any]) -> list[KValue]:
    from portnet_keras.lower import size
    from portnet_keras.repeating import repeat

    count, body = len(sources), node["body"]
    states, outputs = len(node.inputs) - count, len(body.outputs) - len(node.inputs) + count
    axes, backwards = (node.get(f"scan_input_{name}") or [0] * count for name in ("axes", "directions"))
    out_axes, turned = (node.get(f"scan_output_{name}") or [0] * outputs for name in ("axes", "directions"))
    length = sources[0].shape[axes[0]]
    limit = walk.symbolic(np.array(length)) if length is not None else size(axis=axes[0])(sources[0])
    given = [_turned(walk.symbolic(x), axis, 0, back) for x, axis, back in zip(sources, axes, backwards, strict=True)]
    always = walk.symbolic(np.array(True))
    initial = [walk.plain(value) for value in node.inputs[:states]]
    found = repeat(walk, body, limit, always, initial, given, node.name, length)
    collected = [_turned(x, 0, axis, back) for x, axis, back in zip(found[states:], out_axes, turned, strict=True)]
    return [KValue(x, identity(len(x.shape))) for x in [*found[:states], *collected]]


def _turned(x: Any, source: int, target: int, backwards: int) -> Any:
    """Return a tensor with one axis moved, and in the other direction if it runs backwards."""
    x = ops.flip(x, axis=source) if backwards else x
    return x if source % len(x.shape) == target % len(x.shape) else ops.moveaxis(x, source, target)


def _entry(walk: Any, x: Any, place: int, axis: int) -> KValue:
    data = walk.known(ops.take(x, place, axis=axis))
    return KValue(data, identity(len(data.shape)))
