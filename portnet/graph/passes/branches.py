"""Control flow that is decided by constants is written out: If is inlined, Loop is unrolled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import Editor, Site, constant_array, every_node
from portnet.graph.passes.splice import Copier

__all__ = ["inline_ifs", "settle_squeezes", "stays_true", "unroll_loops"]

MAX_STEPS = 256
MAX_NODES = 20_000


def inline_ifs(model: ir.Model) -> bool:
    """Replace each If of a constant condition by its branch; True if there was one.

    Requires: names unique across graphs, constants folded.
    Ensures: no If of a constant condition.
    """
    editor, changed = Editor(model), False
    for node in every_node(model.graph):
        if node.op_type != "If" or node.domain != "" or node.graph is None:
            continue
        condition = constant_array(node.inputs[0])
        if condition is not None and condition.size == 1:
            _inline_branch(node, "then_branch" if condition.item() else "else_branch", editor)
            changed = True
    return changed


def settle_squeezes(model: ir.Model) -> bool:
    """Let an If that squeezes an axis if its size is 1, and else does nothing, squeeze it; True if there was one.

    torch's exporter writes it for ``squeeze(axis)``. The rank would depend on a size. What follows was written for the
    squeezed tensor, or the axis would not be squeezed; where its size is not 1 the network then fails when it runs. A
    free batch is left alone: there a size of 1 is the exception.

    Requires: names unique across graphs, named sizes.
    Ensures: no such If on an axis other than a batch.
    """
    batches = {value.shape[0] for value in model.graph.inputs if value.shape is not None and len(value.shape)}
    editor, changed = Editor(model), False
    for node in every_node(model.graph):
        if node.op_type == "If" and node.domain == "" and node.graph is not None and _squeezes(node, batches):
            _inline_branch(node, "then_branch", editor)
            changed = True
    return changed


def _squeezes(node: ir.Node, batches: set[int | ir.SymbolicDim]) -> bool:
    chosen, otherwise = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    if len(node.outputs) != 1 or len(chosen) != 1 or any(inner.op_type != "Identity" for inner in otherwise):
        return False
    squeeze = chosen[0]
    source = squeeze.inputs[0] if squeeze.inputs else None
    axes = constant_array(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
    if squeeze.op_type != "Squeeze" or source is None or source.shape is None or axes is None or axes.size != 1:
        return False
    kept = otherwise.outputs[0]
    kept_source = kept if kept.producer() is None or not len(otherwise) else kept.producer().inputs[0]  # type: ignore[union-attr]
    if kept_source is not source or not -len(source.shape) <= axes.item() < len(source.shape):
        return False
    return source.shape[int(axes.item())] not in batches


def _inline_branch(node: ir.Node, name: str, editor: Editor) -> None:
    copier = Copier({}, {}, editor.fresh)
    branch = node.attributes[name].as_graph()
    site = Site(node, editor)
    site.insert(copier.nodes(branch))
    site.replace(*[copier.value(output) for output in branch.outputs])


def unroll_loops(model: ir.Model) -> bool:
    """Replace each Loop of a constant number of steps by its steps; True if there was one.

    Requires: names unique across graphs, constants folded.
    Ensures: no Loop of at most `MAX_STEPS` constant steps whose condition stays true.
    """
    editor, changed = Editor(model), False
    for node in every_node(model.graph):
        if node.op_type == "Loop" and node.domain == "" and node.graph is not None:
            steps = _steps(node)
            if steps is not None:
                _unroll(node, steps, editor)
                changed = True
    return changed


def _steps(node: ir.Node) -> int | None:
    """Number of steps, or None where it depends on data or is too large to write out."""
    body = node.attributes["body"].as_graph()
    condition = constant_array(node.inputs[1]) if node.inputs[1] is not None else np.array(True)
    if condition is None or condition.size != 1:
        return None
    if not condition.item():
        return 0 if len(node.outputs) == len(body.inputs) - 2 else None
    trips = constant_array(node.inputs[0])
    if trips is None or trips.size != 1 or not stays_true(body):
        return None
    steps = max(int(trips.item()), 0)
    scans = len(body.outputs) - len(body.inputs) + 1
    if steps > MAX_STEPS or steps * sum(1 for _ in every_node(body)) > MAX_NODES or (steps == 0 and scans):
        return None
    return steps


def stays_true(body: ir.Graph) -> bool:
    """Whether a body's condition is the one it was given, or a constant true."""
    condition = body.outputs[0]
    while (producer := condition.producer()) is not None and producer.op_type == "Identity":
        condition = producer.inputs[0]  # type: ignore[assignment]
    array = constant_array(condition)
    return condition is body.inputs[1] or (array is not None and bool(np.all(array)))


def _namer(editor: Editor, prefix: str) -> Callable[[str], str]:
    return lambda name: editor.fresh(f"{prefix}/{name}")


def _unroll(node: ir.Node, steps: int, editor: Editor) -> None:
    body, site = node.attributes["body"].as_graph(), Site(node, editor)
    carried, condition = list(node.inputs[2:]), editor.constant(np.array(True), f"{site.name}/condition")
    scanned: list[list[ir.Value]] = [[] for _ in body.outputs[1 + len(carried) :]]
    axis = site.ints([0], "axis")
    for step in range(steps):
        index = site.constant(np.int64(step), "step")
        given = dict(zip(body.inputs, [index, condition, *carried], strict=True))
        copier = Copier(given, {}, _namer(editor, f"{site.name}/{step}"))
        site.insert(copier.nodes(body))
        results = [copier.value(output) for output in body.outputs[1:]]
        carried = results[: len(carried)]
        for entries, value in zip(scanned, results[len(carried) :], strict=True):
            entries.append(site.op("Unsqueeze", value, axis))
    stacked = [site.op("Concat", *entries, axis=0) for entries in scanned]
    site.replace(*carried, *stacked)
