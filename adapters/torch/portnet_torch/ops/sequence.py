"""Sequences are Python lists, an absent optional is None."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_torch.functional import sequence
from portnet_torch.ops.registry import Walk, op


@op("SequenceConstruct")
def _construct(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.construct, *walk.inputs(node))


@op("SequenceEmpty")
def _empty(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.construct)


@op("SequenceAt")
def _at(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.at, walk.value(node.required(0)), walk.item(node.required(1)))


@op("SequenceLength")
def _length(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.length, walk.value(node.required(0)))


@op("SequenceInsert")
def _insert(walk: Walk, node: NodeView) -> Any:
    place = None if node.input(2) is None else walk.item(node.input(2))
    return walk.call(sequence.insert, walk.value(node.required(0)), walk.value(node.required(1)), place)


@op("SequenceErase")
def _erase(walk: Walk, node: NodeView) -> Any:
    place = -1 if node.input(1) is None else walk.item(node.input(1))
    return walk.call(sequence.erase, walk.value(node.required(0)), place)


@op("ConcatFromSequence")
def _concat(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.concat, walk.value(node.required(0)), node["axis"], bool(node["new_axis"]))


@op("SplitToSequence")
def _split(walk: Walk, node: NodeView) -> Any:
    sizes = node.input(1)
    scalar = sizes is not None and sizes.shape is not None and len(sizes.shape) == 0
    parts = None if sizes is None else walk.item(sizes) if scalar else walk.ints(sizes)
    keepdims = bool(node["keepdims"])
    return walk.call(sequence.split, walk.value(node.required(0)), parts, node["axis"], keepdims)


@op("Optional")
def _optional(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.optional, walk.optional(node.input(0)))


@op("OptionalGetElement")
def _get_element(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.get_element, walk.value(node.required(0)))


@op("OptionalHasElement")
def _has_element(walk: Walk, node: NodeView) -> Any:
    return walk.call(sequence.has_element, walk.optional(node.input(0)))
