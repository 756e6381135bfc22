"""Numbers that are known before the network runs: learned arrays, also where a symbol joins or reshapes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from portnet.formats.mxnet.attributes import Attributes
from portnet.formats.mxnet.symbol import Entry, Symbol

__all__ = ["hosted"]

_MAX_DEPTH = 64
_MAX_ELEMENTS = 1 << 28


def hosted(symbol: Symbol, arrays: Mapping[str, np.ndarray], entry: Entry, depth: int = 0) -> np.ndarray | None:
    """Return the numbers of an entry, or None where they depend on an input.

    Fused recurrent layers read one vector; Gluon's symbols join it from the parameters of each gate, and an engine's
    from those of ONNX.
    """
    node = symbol.nodes[entry.node]
    if node.is_variable:
        return arrays.get(node.name)
    if depth > _MAX_DEPTH or node.op not in _KNOWN:
        return None
    parts = [hosted(symbol, arrays, each, depth + 1) for each in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return None
    return _KNOWN[node.op](known, Attributes(node.attributes, f"layer {node.name!r} ({node.op})"))


def _reshaped(parts: list[np.ndarray], attributes: Attributes) -> np.ndarray | None:
    """Return what is flat, or has its first two axes joined; None for other shapes."""
    [array], shape = parts[:1], attributes.integers("shape")
    if shape == (-1,):
        return array.reshape(-1)
    if shape == (-3, -2) and array.ndim > 1:
        return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
    return None


def _joined(parts: list[np.ndarray], attributes: Attributes) -> np.ndarray | None:
    if not parts or len({part.shape[1:] for part in parts}) > 1 or parts[0].ndim < 1:
        return None
    return np.concatenate(parts) if attributes.integer("dim", 1) == 0 else None


def _cut(parts: list[np.ndarray], attributes: Attributes) -> np.ndarray | None:
    [array], axis = parts[:1], attributes.integer("axis", 0)
    begin, end = attributes.integer("begin", 0), attributes.maybe_integer("end")
    if not 0 <= axis < array.ndim or begin < 0 or (end is not None and end < 0):
        return None
    return array[(slice(None),) * axis + (slice(begin, end),)]


def _zeros(parts: list[np.ndarray], attributes: Attributes) -> np.ndarray | None:
    shape = attributes.integers("shape")
    if min(shape, default=0) < 1 or math.prod(shape) > _MAX_ELEMENTS:
        return None
    return np.zeros(shape, np.float32)


_KNOWN: dict[str, Callable[[list[np.ndarray], Attributes], np.ndarray | None]] = {
    **dict.fromkeys(("Reshape", "reshape"), _reshaped),
    **dict.fromkeys(("Concat", "concat", "_rnn_param_concat"), _joined),
    **{"slice_axis": _cut, "_zeros": _zeros},
}
