"""Control flow that can be decided while the network is built: it is written out."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, numpy_op, op
from portnet_gluon.ops.shape import dropped

# longest Scan that is written out
_MAX_STEPS = 1024


@op("If")
def if_(walk: Any, node: NodeView) -> list[Symbol]:
    """The branch that a known condition chooses; else both, and elementwise the one that holds."""
    known = walk.try_host(node.required(0))
    if known is not None and not known.is_symbolic:
        return walk.branch(node["then_branch" if known.array.item() else "else_branch"], [])
    condition = walk.value(node.required(0))
    results = [walk.branch(node[name], []) for name in ("then_branch", "else_branch")]
    return [_chosen(walk, condition, yes, no) for yes, no in zip(*results, strict=True)]


def _chosen(walk: Any, condition: Symbol, yes: Symbol, no: Symbol) -> Symbol:
    shapes = [walk.shape_of(branch) for branch in (yes, no)]
    if shapes[0] is None or shapes[0] != shapes[1]:
        raise walk.unsupported(f"a computed condition: the branches give shapes {shapes[0]} and {shapes[1]}")
    return numpy_op("where", condition, yes, no)


@op("Scan")
def scan(walk: Any, node: NodeView) -> list[Symbol]:
    """Step after step over the entries of tensors."""
    body, count = node["body"], node["num_scan_inputs"]
    states, sources = node.inputs[:-count], node.inputs[-count:]
    axes = [axis % walk.rank(x) for axis, x in zip(_given(node, "scan_input_axes", count), sources, strict=True)]
    backward = _given(node, "scan_input_directions", count)
    steps = (walk.static_shape(sources[0]) or [None] * (axes[0] + 1))[axes[0]]
    if steps is None or not 0 < steps <= _MAX_STEPS:
        raise walk.unsupported(f"steps: got {steps or 'none or a free number'}, expected at most {_MAX_STEPS}")
    current, collected = [walk.value(state) for state in states], []
    for step in range(steps):
        places = [steps - 1 - step if back else step for back in backward]
        entries = [_entry(walk.value(x), axis, at) for x, axis, at in zip(sources, axes, places, strict=True)]
        results = walk.branch(body, [*current, *entries])
        current = results[: len(states)]
        collected.append(results[len(states) :])
    return [*current, *_stacked(node, list(zip(*collected, strict=True)))]


def _given(node: NodeView, name: str, count: int) -> list[int]:
    return list(node.get(name) or [0] * count)


def _entry(x: Symbol, axis: int, place: int) -> Symbol:
    return dropped(mx.sym.slice_axis(x, axis=axis, begin=place, end=place + 1), (axis,))


def _stacked(node: NodeView, columns: list[tuple[Symbol, ...]]) -> list[Symbol]:
    backward = _given(node, "scan_output_directions", len(columns))
    axes = _given(node, "scan_output_axes", len(columns))
    return [
        mx.sym.stack(*(reversed(column) if back else column), axis=axis)
        for column, back, axis in zip(columns, backward, axes, strict=True)
    ]
