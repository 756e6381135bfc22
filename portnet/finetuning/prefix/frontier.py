"""Where a partly frozen network can be cut: at one tensor, or at several where one would leave much frozen work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from portnet.finetuning.freeze_table import FreezeTable
from portnet.graph.cut import cut
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.graph.passes.rewrite import every_node, subgraphs
from portnet.graph.summary import summarize

__all__ = ["Cut", "cuts", "split_at"]

# reading one kept number takes about as long as so many multiply-accumulates of a layer that is run again instead:
# some 10⁹ numbers a second come from memory, a core and an engine make some 6·10¹⁰ multiply-accumulates
MACS_PER_READ = 64

# nodes whose result is not a function of their inputs
_RANDOM = {
    "Dropout",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}


@dataclass(frozen=True)
class Cut:
    """A way to cut a network into a prefix that nothing trains in and the rest.

    Attributes:
        tensors: names of the tensors between the two, in the order in which they are computed.
        shapes: their sizes without the batch.
        macs_left: multiply-accumulates of one image in frozen layers that stay behind the cut and run at each step.
    """

    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    macs_left: int

    @property
    def numbers(self) -> int:
        """Numbers to keep for one image."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def cost(self) -> int:
        """What a step pays for the frozen part of one image, in multiply-accumulates."""
        return self.macs_left + MACS_PER_READ * self.numbers

    def __str__(self) -> str:
        return ", ".join(map(repr, self.tensors))


def cuts(model: Model, table: FreezeTable) -> list[Cut]:
    """Return the ways to cut a network at its freeze frontier, the cheapest for a step first.

    Each tensor that everything trained depends on alone is one way; all tensors at which frozen meets trained are
    another. The latter leave no frozen layer behind; a single one leaves those beside it: where one branch of a block
    is frozen and its neighbour trains, the frozen branch. Which costs a step less decides, reading kept numbers counted
    as `MACS_PER_READ` multiply-accumulates each; of equals, the one that is computed last.

    Only tensors are kept whose sizes are known and whose first axis is the batch. Without any, the list is empty:
    nothing before the first trained layer does any work.
    """
    nodes = list(model.ir.graph)
    fixed, carried = _unchanging(model, table)
    rows = summarize(model).rows
    sizes = {row.layer.output: _without_batch(row.shape) for row in rows}
    macs = [row.macs or 0 if node in fixed else 0 for node, row in zip(nodes, rows[1:], strict=True)]
    found: list[tuple[tuple[int, ...], Cut]] = []

    def consider(values: Sequence[ir.Value], macs_left: int, place: int) -> None:
        shapes = [sizes.get(value.name or "") for value in values]
        if any(shape is None or value.is_graph_output() for value, shape in zip(values, shapes, strict=True)):
            return
        option = Cut(tuple(v.name or "" for v in values), tuple(s for s in shapes if s is not None), macs_left)
        found.append(((option.cost, len(values), -place), option))

    for place in _dominating(model):
        if nodes[place] in fixed and nodes[place].outputs[0] in carried:
            consider(nodes[place].outputs[:1], sum(macs[place + 1 :]), place)
    meeting = [value for node in nodes if node in fixed for value in node.outputs if _meets(value, fixed, carried)]
    if len(meeting) > 1 and not any(_meets(value, fixed, carried) for value in model.ir.graph.inputs):
        consider(meeting, 0, len(nodes))
    return [option for _, option in sorted(found, key=lambda each: each[0])]


def split_at(model: Model, tensors: tuple[str, ...]) -> tuple[Model, Model]:
    """Return (prefix, suffix): the network up to these tensors, and from them on."""
    outputs = [port.name for port in model.outputs]
    return cut(model, outputs=tensors), cut(model, inputs=tensors, outputs=outputs)


def _unchanging(model: Model, table: FreezeTable) -> tuple[set[ir.Node], set[ir.Value]]:
    """Return the nodes whose results training cannot change, and those of their results that depend on the images."""
    graph = model.ir.graph
    moving = {name for name, plan in table.parameters.items() if plan.trainable}
    moving |= {name for name, role in model.roles.items() if role is Role.STATISTIC} - table.frozen_statistics
    constants = {value for name, value in graph.initializers.items() if name not in moving}
    carried = {value for value in graph.inputs if value.name not in graph.initializers}
    nodes: set[ir.Node] = set()
    for node in graph:
        sources = {value for value in node.inputs if value is not None}
        if node.op_type in _RANDOM or subgraphs(node) or not sources <= constants | carried:
            continue
        nodes.add(node)
        (carried if sources & carried else constants).update(node.outputs)
    return nodes, carried


def _meets(value: ir.Value, fixed: set[ir.Node], carried: set[ir.Value]) -> bool:
    """Whether something that training changes reads a value that it does not change."""
    return value in carried and any(use.node not in fixed for use in value.uses())


def _dominating(model: Model) -> Iterator[int]:
    """Yield the places of the nodes whose first output is all that the nodes after them read of what was computed."""
    graph = model.ir.graph
    last = {value: -1 for value in graph.inputs if value.name not in graph.initializers}
    for place, node in enumerate(graph):
        sources = [value for value in _sources(graph, node) if value in last]
        if sources or node.op_type in _RANDOM:
            last |= dict.fromkeys(sources, place)
            last |= dict.fromkeys(node.outputs, place)
    last |= dict.fromkeys((value for value in graph.outputs if value in last), len(graph))
    reach = max((last[value] for value in graph.inputs if value in last), default=-1)
    for place, node in enumerate(graph):
        own, *others = [last.get(value, -1) for value in node.outputs]
        reach = max([reach, *others])
        if reach <= place:
            yield place
        reach = max(reach, own)


def _sources(graph: ir.Graph, node: ir.Node) -> Iterator[ir.Value]:
    """Yield what a node reads, inside its branches and bodies too."""
    yield from (value for value in node.inputs if value is not None)
    for body in subgraphs(node):
        inside = [value for inner in every_node(body) for value in inner.inputs] + list(body.outputs)
        yield from (value for value in inside if value is not None and value.graph is graph)


def _without_batch(shape: tuple[int | str, ...] | None) -> tuple[int, ...] | None:
    if not shape or shape[0] != "N" or not all(isinstance(size, int) for size in shape[1:]):
        return None
    return tuple(int(size) for size in shape[1:])
