"""Sequences of known length, and optionals, become the tensors they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import Editor, Site, constant_array, every_node, python_attribute, static_dims

__all__ = ["SEQUENCE_OPS", "unpack_sequences"]

# an axis is not split into more tensors
MAX_PARTS = 1024

# sequence -> the tensors it holds
_Known = dict[ir.Value, tuple[ir.Value, ...]]


def unpack_sequences(model: ir.Model) -> None:
    """Let readers of a sequence whose length is known read its tensors; exporters write them for lists and splits.

    Requires: constants folded.
    Ensures: SequenceAt, SequenceLength and ConcatFromSequence are left only where a length or position is not known.
    """
    editor, known = Editor(model), _Known()
    for node in every_node(model.graph):
        if node.domain == "" and node.op_type in _MAKERS:
            entries = _MAKERS[node.op_type](Site(node, editor), node, known)
            if entries is not None:
                known[node.outputs[0]] = entries
        elif node.domain == "" and node.op_type in _READERS:
            _read(Site(node, editor), node, known)


def _read(site: Site, node: ir.Node, known: _Known) -> None:
    source = node.inputs[0] if node.inputs else None
    result = None if source is None else _READERS[node.op_type](site, node, source, known)
    if result is not None:
        site.replace(result)


def _entries(value: ir.Value | None, known: _Known) -> tuple[ir.Value, ...] | None:
    return None if value is None else known.get(value)


def _position(node: ir.Node, index: int, count: int) -> int | None:
    """Return the position that input ``index`` says, counted from the front; None where it is not known or outside."""
    if index >= len(node.inputs) or node.inputs[index] is None:
        return count
    array = constant_array(node.inputs[index])
    if array is None or array.size != 1:
        return None
    position = int(array.item()) + (count if array.item() < 0 else 0)
    return position if 0 <= position <= count else None


def _construct(site: Site, node: ir.Node, known: _Known) -> tuple[ir.Value, ...] | None:
    return tuple(value for value in node.inputs if value is not None)


def _empty(site: Site, node: ir.Node, known: _Known) -> tuple[ir.Value, ...] | None:
    return ()


def _insert(site: Site, node: ir.Node, known: _Known) -> tuple[ir.Value, ...] | None:
    entries, value = _entries(node.inputs[0], known), node.inputs[1]
    position = None if entries is None else _position(node, 2, len(entries))
    if entries is None or position is None or value is None:
        return None
    return (*entries[:position], value, *entries[position:])


def _erase(site: Site, node: ir.Node, known: _Known) -> tuple[ir.Value, ...] | None:
    entries = _entries(node.inputs[0], known)
    if not entries:
        return None
    last = len(node.inputs) < 2 or node.inputs[1] is None
    position = len(entries) - 1 if last else _position(node, 1, len(entries))
    if position is None or position == len(entries):
        return None
    return (*entries[:position], *entries[position + 1 :])


def _split(site: Site, node: ir.Node, known: _Known) -> tuple[ir.Value, ...] | None:
    """SplitToSequence of an axis of known size, or into parts of known sizes, is Split."""
    axis, dims = python_attribute(node, "axis", 0), static_dims(node.inputs[0])
    size = None if dims is None or not -len(dims) <= axis < len(dims) else dims[axis]
    given = node.inputs[1] if len(node.inputs) > 1 else None
    array = np.array(1) if given is None else constant_array(given)
    if array is None or array.size > MAX_PARTS:
        return None
    parts = _part_sizes(size, array)
    if not parts:
        return None
    pieces = site.ops("Split", node.inputs[0], site.ints(parts, "split"), count=len(parts), axis=axis)
    if given is None and not python_attribute(node, "keepdims", 1):
        where = site.ints([axis], "axis")
        pieces = [site.op("Squeeze", piece, where) for piece in pieces]
    return tuple(pieces)


def _part_sizes(size: int | None, split: np.ndarray) -> list[int] | None:
    if split.ndim:
        fits = size is None or split.sum() == size
        return [int(n) for n in split] if fits and np.all(split >= 0) else None
    step = int(split)
    if size is None or step <= 0 or -(-size // step) > MAX_PARTS:
        return None
    return [min(step, size - start) for start in range(0, size, step)]


def _at(site: Site, node: ir.Node, source: ir.Value, known: _Known) -> ir.Value | None:
    entries = known.get(source)
    position = None if entries is None else _position(node, 1, len(entries))
    return None if entries is None or position is None or position == len(entries) else entries[position]


def _length(site: Site, node: ir.Node, source: ir.Value, known: _Known) -> ir.Value | None:
    entries = known.get(source)
    return None if entries is None else site.constant(np.int64(len(entries)), "length")


def _concat(site: Site, node: ir.Node, source: ir.Value, known: _Known) -> ir.Value | None:
    entries: Sequence[ir.Value] | None = known.get(source)
    if not entries:
        return None
    axis = python_attribute(node, "axis")
    if python_attribute(node, "new_axis", 0):
        where = site.ints([axis], "axis")
        entries = [site.op("Unsqueeze", entry, where) for entry in entries]
    return site.op("Concat", *entries, axis=axis)


def _get_element(site: Site, node: ir.Node, source: ir.Value, known: _Known) -> ir.Value | None:
    """The element of what is no optional is itself."""
    producer = source.producer()
    if producer is not None and producer.op_type == "Optional" and producer.inputs:
        return producer.inputs[0]
    return source if isinstance(source.type, (ir.TensorType, ir.SequenceType)) else None


def _has_element(site: Site, node: ir.Node, source: ir.Value, known: _Known) -> ir.Value | None:
    element = _get_element(site, node, source, known)
    return None if element is None else site.constant(np.array(True), "has")


_MAKERS: dict[str, Callable[[Site, ir.Node, _Known], tuple[ir.Value, ...] | None]] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SplitToSequence": _split,
}
_READERS: dict[str, Callable[[Site, ir.Node, ir.Value, _Known], ir.Value | None]] = {
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
    "OptionalGetElement": _get_element,
    "OptionalHasElement": _has_element,
}
# ops that make or read a sequence or an optional
SEQUENCE_OPS = frozenset({*_MAKERS, *_READERS})
