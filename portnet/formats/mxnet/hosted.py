"""Numbers that are known before the network runs: learned arrays, also where a symbol joins or reshapes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from portnet.formats.mxnet.attributes import Attributes
from portnet.formats.mxnet.symbol import Entry, Symbol

__all__ = ["hosted"]

_MAX_DEPTH = 64


def hosted(symbol: Symbol, arrays: Mapping[str, np.ndarray], entry: Entry, depth: int = 0) -> np.ndarray | None:
    """Return the numbers of an entry, or None where they depend on an input.

    Fused recurrent layers read one vector; Gluon's symbols join it from the parameters of each gate.
    """
    node = symbol.nodes[entry.node]
    if node.is_variable:
        return arrays.get(node.name)
    if depth > _MAX_DEPTH or node.op not in ("Reshape", "reshape", "Concat", "concat", "_rnn_param_concat"):
        return None
    parts = [hosted(symbol, arrays, each, depth + 1) for each in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts) or not known:
        return None
    attributes = Attributes(node.attributes, f"layer {node.name!r} ({node.op})")
    if node.op in ("Reshape", "reshape"):
        return known[0].reshape(-1) if attributes.integers("shape") == (-1,) else None
    return np.concatenate(known) if attributes.integer("dim", 1) == 0 and all(k.ndim == 1 for k in known) else None
