"""onnxruntime's own attention ops in standard ops: Attention, QAttention, MultiHeadAttention.

Sources: onnxruntime's docs/ContribOperators.md, and contrib_ops/cpu/bert/attention_cpu_base.h for what masks add.
B: batch, S: queries, P: keys of the past, L: new keys, T = P + L, H: heads, D: size of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import Site, input_at, is_read, python_attribute, rank, static_dims

__all__ = ["attention", "multi_head_attention", "quantized_attention"]

_FLOAT, _INT64 = int(ir.DataType.FLOAT), int(ir.DataType.INT64)
# what a masked score is lowered by where the node does not say
_FILTER = -10000.0
# what the future is lowered by: more than any filter, and finite, as a row without any key is no NaN
_FUTURE = -1e30

Results = tuple[ir.Value | None, ...]


@dataclass(frozen=True)
class _Heads:
    """Queries, keys and values: (B, H, S, D), (B, H, T, D) and (B, H, T, D of values).

    Attributes:
        is_self: whether there are as many new keys as queries.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    is_self: bool = True


# ---- ops


def attention(site: Site, node: ir.Node) -> Results | None:
    """One product with joined weights, heads, and the past as (2, B, H, P, D); None for a variant without a rule."""
    x, weight, bias, mask, past, scores_bias = (input_at(node, i) for i in range(6))
    if _has_own_rotation(node) or input_at(node, 6) is not None:
        return None
    product = site.op("MatMul", x, weight)
    product = product if bias is None else site.op("Add", product, bias)
    return _self_attention(site, node, product, weight, mask, past, scores_bias)


def quantized_attention(site: Site, node: ir.Node) -> Results | None:
    """The same, its product of 8-bit integers."""
    x, weight, bias, x_scale, w_scale, mask, x_zero, w_zero, past = (input_at(node, i) for i in range(9))
    if _has_own_rotation(node):
        return None
    product = site.op("Cast", site.op("MatMulInteger", x, weight, x_zero, w_zero), to=_FLOAT)
    product = site.op("Add", site.op("Mul", product, site.op("Mul", x_scale, w_scale)), bias)
    return _self_attention(site, node, product, weight, mask, past, None)


def _has_own_rotation(node: ir.Node) -> bool:
    return any(python_attribute(node, name, 0) for name in ("do_rotary", "past_present_share_buffer"))


def _self_attention(
    site: Site,
    node: ir.Node,
    product: ir.Value,
    weight: ir.Value | None,
    mask: ir.Value | None,
    past: ir.Value | None,
    scores_bias: ir.Value | None,
) -> Results | None:
    heads, width = python_attribute(node, "num_heads", 0), (static_dims(weight) or (None,))[-1]
    if not heads or width is None or is_read(node, 2):
        return None
    sizes = python_attribute(node, "qkv_hidden_sizes") or [width // 3] * 3
    parts = site.ops("Split", product, site.ints(sizes, "sizes"), count=3, axis=-1)
    query, key, value = (_split_heads(site, part, heads, size) for part, size in zip(parts, sizes, strict=True))
    present: ir.Value | None = None
    before: ir.Value | None = None
    if past is not None:
        old_key, old_value = (site.op("Gather", past, site.ints(i, "part"), axis=0) for i in (0, 1))
        before = _length(site, old_key, 2)
        key, value = (site.op("Concat", *pair, axis=2) for pair in ((old_key, key), (old_value, value)))
    if is_read(node, 1):
        axis = site.ints([0], "axis")
        present = site.op("Concat", *(site.op("Unsqueeze", part, axis) for part in (key, value)), axis=0)
    found = _Heads(query, key, value)
    biases = _mask(site, node, found, mask, node.inputs[0])
    if biases is None:
        return None
    result = _attend(site, node, found, sizes[0] // heads, before, [*biases, scores_bias])
    return (_joined_heads(site, result, sizes[2]), present, None)[: len(node.outputs)]


def multi_head_attention(site: Site, node: ir.Node) -> Results | None:
    """Heads of queries (B, S, H·D), and of keys and values alike or as (B, H, L, D); None for packed ones."""
    query, key, value, bias, mask, scores_bias, past_key, past_value = (input_at(node, i) for i in range(8))
    heads = python_attribute(node, "num_heads", 0)
    width = _last_size(query)
    if rank(query) != 3 or not heads or width is None or any(input_at(node, i) is not None for i in (8, 9)):
        return None
    if rank(key) not in (3, 4) or rank(value) != rank(key) or is_read(node, 3):
        return None
    is_self = _size_of(query, 1) == _size_of(key, 1 if rank(key) == 3 else 2)
    values = (_last_size(value) or 0) * (heads if rank(value) == 4 else 1)
    if not values:
        return None
    sizes, given = [width, width, values], [query, key, value]
    if bias is not None:
        parts = site.ops("Split", bias, site.ints(sizes, "sizes"), count=3, axis=0)
        given = [_plus_bias(site, tensor, part) for tensor, part in zip(given, parts, strict=True)]
    query, key, value = (
        tensor if rank(tensor) == 4 else _split_heads(site, tensor, heads, size)
        for tensor, size in zip(given, sizes, strict=True)
    )
    before = None if past_key is None else _length(site, past_key, 2)
    if past_key is not None:
        key = site.op("Concat", past_key, key, axis=2)
        value = site.op("Concat", past_value, value, axis=2)
    assert query is not None
    assert key is not None
    assert value is not None
    found = _Heads(query, key, value, is_self)
    biases = _mask(site, node, found, mask, node.inputs[0])
    if biases is None:
        return None
    result = _attend(site, node, found, width // heads, before, [*biases, scores_bias])
    presents = [tensor if is_read(node, i) else None for i, tensor in ((1, key), (2, value))]
    return (_joined_heads(site, result, values), *presents, None)[: len(node.outputs)]


def _plus_bias(site: Site, tensor: ir.Value | None, bias: ir.Value) -> ir.Value | None:
    """Add a bias; heads of a cross attention that were made before have it already."""
    if rank(tensor) == 4:
        return tensor
    result = site.op("Add", tensor, bias)
    result.shape, result.type = tensor.shape, tensor.type  # type: ignore[union-attr]
    return result


# ---- heads


def _last_size(value: ir.Value | None) -> int | None:
    sizes = static_dims(value)
    return sizes[-1] if sizes else None


def _split_heads(site: Site, tensor: ir.Value | None, heads: int, width: int) -> ir.Value:
    """Return (B, S, H·D) as (B, H, S, D)."""
    apart = site.op("Reshape", tensor, site.ints([0, 0, heads, width // heads], "heads"))
    return site.op("Transpose", apart, perm=[0, 2, 1, 3])


def _joined_heads(site: Site, tensor: ir.Value, width: int) -> ir.Value:
    """Return (B, H, S, D) as (B, S, H·D)."""
    return site.op("Reshape", site.op("Transpose", tensor, perm=[0, 2, 1, 3]), site.ints([0, 0, width], "joined"))


def _attend(
    site: Site, node: ir.Node, heads: _Heads, size: int, before: ir.Value | None, biases: list[ir.Value | None]
) -> ir.Value:
    """Return softmax(scale · Q Kᵀ + biases) V, of the past alone where the node looks in one direction."""
    scale = python_attribute(node, "scale", 0.0) or 1 / math.sqrt(size)
    scores = site.op("MatMul", heads.query, site.op("Transpose", heads.key, perm=[0, 1, 3, 2]))
    scores = site.op("Mul", scores, site.constant(np.float32(scale), "scale"))
    if python_attribute(node, "unidirectional", 0):
        biases = [*biases, _future(site, heads, before)]
    for bias in biases:
        scores = scores if bias is None else site.op("Add", scores, bias)
    return site.op("MatMul", site.op("Softmax", scores, axis=-1), heads.value)


# ---- masks


def _length(site: Site, tensor: ir.Value | None, axis: int) -> ir.Value:
    """Return the size of an axis as a scalar."""
    size = site.op("Shape", tensor, start=axis, end=axis + 1)
    return site.op("Squeeze", size, site.ints([0], "axis"))


def _counted(site: Site, limit: ir.Value, start: ir.Value | None = None) -> ir.Value:
    zero = site.ints(0, "zero") if start is None else start
    return site.op("Range", zero, limit, site.ints(1, "step"))


def _lowered_by(site: Site, hidden: ir.Value, number: float) -> ir.Value:
    """Return a number where a mask hides, and zero elsewhere."""
    return site.op("Mul", site.op("Cast", hidden, to=_FLOAT), site.constant(np.float32(number), "filter"))


def _future(site: Site, heads: _Heads, before: ir.Value | None) -> ir.Value:
    """Return what hides the keys after each query: (S, T). Of other keys onnxruntime shows all to the last query."""
    queries = _length(site, heads.query, 2)
    end = queries if before is None else site.op("Add", queries, before)
    rows = site.op("Unsqueeze", _counted(site, end, before), site.ints([1], "axis"))
    hidden = site.op("Greater", _counted(site, _length(site, heads.key, 2)), rows)
    if not heads.is_self:
        hidden = site.op("And", hidden, site.op("Less", rows, site.op("Sub", end, site.ints(1, "one"))))
    return _lowered_by(site, hidden, _FUTURE)


def _mask(
    site: Site, node: ir.Node, heads: _Heads, mask: ir.Value | None, batch_of: ir.Value | None
) -> list[ir.Value] | None:
    """Return what a mask adds to the scores, or None where its form is not known.

    Counts of keys (B), their ends and then their beginnings (2·B), or a mask of (B, T) or (B, S, T), which hides what
    is not above 0.
    """
    if mask is None:
        return []
    number, axes = python_attribute(node, "mask_filter_value", _FILTER), rank(mask)
    if axes in (2, 3):
        hidden = site.op("Less", site.op("Cast", mask, to=_INT64), site.ints(1, "one"))
        hidden = site.op("Unsqueeze", hidden, site.ints([1, 2] if axes == 2 else [1], "axes"))
        return [_lowered_by(site, hidden, number)]
    ends, batch = _size_of(mask, 0), _size_of(batch_of, 0)
    if axes != 1 or ends is None or batch is None:
        return None
    places = _counted(site, _length(site, heads.key, 2))
    if ends == batch:
        return [_lowered_by(site, site.op("GreaterOrEqual", places, _column(site, mask)), number)]
    if not isinstance(batch, int) or ends != 2 * batch:
        return None
    last, first = site.ops("Split", mask, site.ints([batch, batch], "sizes"), count=2, axis=0)
    after = site.op("GreaterOrEqual", places, _column(site, last))
    hidden = site.op("Or", after, site.op("Less", places, _column(site, first)))
    return [_lowered_by(site, hidden, number)]


def _column(site: Site, numbers: ir.Value) -> ir.Value:
    """Return (B) as (B, 1, 1, 1), int64."""
    return site.op("Unsqueeze", site.op("Cast", numbers, to=_INT64), site.ints([1, 2, 3], "axes"))


def _size_of(value: ir.Value | None, axis: int) -> Any:
    """Return a size, a symbolic one by its name."""
    if value is None or value.shape is None or axis >= len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else size.value
