"""Attention: of several heads with learned projections, and plain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.masks import Mask, mask_of
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.options import MAX_NUMBER
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_MASKED = -1e9
_MAX_STEPS = 8192


@layer("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention")
def multi_head(walk: Walk, node: LayerNode) -> list[Held] | Held:
    """softmax(q kᵀ / √d) v for each head, between dense layers (Vaswani et al. 2017).

    Where there are fewer heads of keys and values, several heads of the query share one (Ainslie et al. 2023).
    """
    options, grouped = node.options, node.kind != "MultiHeadAttention"
    query, value, key = _sources(walk, node)
    masks = _masks(walk, node, grouped)
    if grouped:
        heads, depth = options.integer("num_query_heads"), options.integer("head_dim")
        value_depth, shared = depth, options.integer("num_key_value_heads")
    else:
        heads, depth = options.integer("num_heads"), options.integer("key_dim")
        value_depth, shared = options.integer("value_dim", depth), heads
    if heads % shared:
        raise options.wrong("num_query_heads", f"a multiple of {shared} heads of keys")
    widths = {name: x.size(2, f"layer {node.name!r}") for name, x in zip("qkv", (query, key, value), strict=True)}
    output = _output_width(node, widths["q"])
    parts = {
        "query": ("query_dense", (widths["q"], heads, depth), (heads, depth)),
        "key": ("key_dense", (widths["k"], shared, depth), (shared, depth)),
        "gate": ("gate_dense", (widths["q"], heads, value_depth), (heads, value_depth)),
        "value": ("value_dense", (widths["v"], shared, value_depth), (shared, value_depth)),
        "attention_output": ("output_dense", (heads, value_depth, output), (output,)),
    }
    if not options.flag("use_gate"):
        del parts["gate"]
    slots = []
    for name, (group, kernel, bias) in parts.items():
        group = f"_{group}" if grouped or name == "gate" else group  # where Keras has no property of it
        slots.append(Slot(f"{name}/kernel", kernel, "random", group))
        slots += [Slot(f"{name}/bias", bias, "zeros", group, 1)] if options.flag("use_bias", True) else []
    arrays = walk.weights(node, *slots)
    q = _heads(walk, node, "query", arrays, query, heads, depth, (0, 2, 1, 3))
    k = _heads(walk, node, "key", arrays, key, shared, depth, (0, 2, 3, 1), heads // shared)
    v = _heads(walk, node, "value", arrays, value, shared, value_depth, (0, 2, 1, 3), heads // shared)
    scaled = walk.same("Mul", q, walk.number(1 / math.sqrt(depth), "scale"))
    scores = walk.emit("MatMul", [scaled.value, k.value], identity(4), "scores")
    told = _either(walk, node, query, key, masks)
    if told is not None:
        scores = walk.emit("Where", [told, scores.value, walk.number(_MASKED, "masked")], identity(4), "kept")
    weights = walk.same("Softmax", scores, axis=3)
    shown = bool(node.argument(9, "return_attention_scores", default=False))
    if told is not None and (shown or options.number("dropout", 0.0)):
        # Keras's other way: a query that may look at nothing gets zeros, not the mean
        weights = walk.emit("Where", [told, weights.value, walk.number(0.0, "nothing")], identity(4), "weights")
    mixed = walk.emit("MatMul", [weights.value, v.value], identity(4), "mixed")
    moved = walk.emit("Transpose", [mixed.value], identity(4), perm=(0, 2, 1, 3))
    flat = walk.emit("Reshape", [moved.value, walk.ints([0, 0, heads * value_depth], "flat")], identity(3))
    if "gate" in parts:
        gate = walk.same("Sigmoid", _projected(walk, node, "gate", arrays, query, widths["q"], heads * value_depth))
        flat = walk.same("Mul", flat, gate.value, what="gated")
    result = _projected(walk, node, "attention_output", arrays, flat, heads * value_depth, output)
    if masks[0] is not None:
        walk.masks[result.value] = masks[0]
    return [result, weights] if shown else result


def _output_width(node: LayerNode, width: int) -> int:
    output = node.options.get("output_shape", width)
    (output, *more) = output if isinstance(output, (list, tuple)) and output else [output]
    if more:
        raise UnsupportedError("output_shape of several axes")
    if not isinstance(output, int) or not 0 < output < MAX_NUMBER:
        raise node.options.wrong("output_shape", "a whole number from 1")
    return output


def _sources(walk: Walk, node: LayerNode) -> tuple[Held, Held, Held]:
    """Return query, value and key; the key is the value where it is left out."""
    query, value = node.argument(0, "query"), node.argument(1, "value")
    key = node.argument(2, "key", default=None)
    key = value if key is None else key
    found = []
    for x in (query, value, key):
        if not isinstance(x, Held) or x.rank != 3:
            raise UnsupportedError("inputs that are not (batch, steps, features)")
        found.append(walk.plain(x))
    if node.options.get("attention_axes") not in (None, 1, [1], (1,), [-2], (-2,)):
        raise UnsupportedError("attention_axes")
    return found[0], found[1], found[2]


def _masks(walk: Walk, node: LayerNode, grouped: bool) -> list[Mask | None]:
    """Return the masks of query, value and key.

    Keras 3's MultiHeadAttention goes by the mask that comes with the query, whatever it is told, and takes the masks of
    what it reads away from other readers.
    """
    sources = {"query": node.argument(0, "query"), "value": node.argument(1, "value")}
    sources["key"] = node.argument(2, "key", default=None)
    found = []
    for index, (name, x) in enumerate(sources.items()):
        told = node.argument(3 + index, f"{name}_mask", default=None)
        if name == "query" and not grouped:
            told = None
        found.append(mask_of(walk, x if isinstance(x, Held) else None, told))
    if not grouped and not walk.keras2:
        for x in sources.values():
            if isinstance(x, Held):
                walk.masks.pop(x.value, None)
    return found


def _either(walk: Walk, node: LayerNode, query: Held, key: Held, masks: Sequence[Mask | None]) -> ir.Value | None:
    """Return which query (batch, heads, steps, others) may look at which key; None where all may at all."""
    found = []
    for mask, axes in zip(masks, ([1, 3], [1, 2], [1, 2]), strict=True):
        if mask is not None:
            longer = walk.emit("Unsqueeze", [walk.plain(mask()).value, walk.ints(axes, "mask_axes")], what="mask")
            found.append(longer.value)
    given = node.argument(6, "attention_mask", default=None)
    if given is not None:
        found.append(_given(walk, given))
    fixed = _fixed(walk, node, query, key)
    if fixed is not None:
        found.append(walk.constant(fixed, "mask", np.bool_))
    if not found:
        return None
    total = found[0]
    for each in found[1:]:
        total = walk.emit("And", [total, each], identity(4), "mask/and").value
    return total


def _given(walk: Walk, mask: Any) -> ir.Value:
    if not isinstance(mask, Held) or mask.rank not in (3, 4):
        raise UnsupportedError("attention_mask that is not (batch, queries, keys)")
    plain = walk.plain(mask)
    if plain.value.dtype != ir.DataType.BOOL:
        plain = walk.same("Cast", plain, to=ir.DataType.BOOL.value, what="mask/bool")
    if mask.rank == 4:
        return plain.value
    return walk.emit("Unsqueeze", [plain.value, walk.ints([1], "mask_axis")], what="mask/given").value


def _fixed(walk: Walk, node: LayerNode, query: Held, key: Held) -> np.ndarray | None:
    """Return what place alone forbids: steps behind a query's own, and those out of its window."""
    causal = bool(node.argument(9, "use_causal_mask", default=False))
    window = node.options.integer("sliding_window") if "sliding_window" in node.options else None
    if not causal and window is None:
        return None
    steps, others = (x.size(1, f"layer {node.name!r}") for x in (query, key))
    if max(steps, others) > _MAX_STEPS:
        raise ModelError(f"layer {node.name!r}: got {max(steps, others)} steps, expected at most {_MAX_STEPS}")
    ahead = np.arange(others)[None, :] - np.arange(steps)[:, None]
    allowed = np.abs(ahead) < window if window is not None else np.full(ahead.shape, True)
    return allowed & (ahead <= 0) if causal else allowed


def _heads(
    walk: Walk,
    node: LayerNode,
    name: str,
    arrays: dict[str, np.ndarray],
    x: Held,
    heads: int,
    depth: int,
    perm: tuple[int, ...],
    shared_by: int = 1,
) -> Held:
    """Return a projection (batch, heads, steps, depth), or with the last two exchanged; heads as often as shared."""
    width = x.size(2, f"layer {node.name!r}")
    flat = _projected(walk, node, name, arrays, x, width, heads * depth)
    split = walk.emit("Reshape", [flat.value, walk.ints([0, 0, heads, depth], f"{name}/shape")], identity(4))
    moved = walk.emit("Transpose", [split.value], identity(4), f"{name}/transpose", perm=perm)
    if shared_by == 1:
        return moved
    single = walk.emit("Unsqueeze", [moved.value, walk.ints([2], f"{name}/axis")], identity(5), f"{name}/single")
    times = walk.ints([1, 1, shared_by, 1, 1], f"{name}/times")
    tiled = walk.emit("Tile", [single.value, times], identity(5), f"{name}/tiled")
    target = [0, heads * shared_by, *((depth, -1) if perm[-1] == 1 else (-1, depth))]
    return walk.emit("Reshape", [tiled.value, walk.ints(target, f"{name}/target")], identity(4), f"{name}/repeated")


def _projected(
    walk: Walk, node: LayerNode, name: str, arrays: dict[str, np.ndarray], x: Held, width: int, out: int
) -> Held:
    kernel = walk.parameter(node, f"{name}/kernel", arrays[f"{name}/kernel"].reshape(width, out))
    result = walk.emit("MatMul", [x.value, kernel], x.order, f"{name}/matmul")
    if f"{name}/bias" not in arrays:
        return result
    bias = walk.parameter(node, f"{name}/bias", arrays[f"{name}/bias"].reshape(out))
    return walk.same("Add", result, bias, what=f"{name}/add")


@layer("Attention")
def attention(walk: Walk, node: LayerNode) -> list[Held] | Held:
    """softmax(q kᵀ) v, or softmax(w Σ tanh(s (q + k))) v, without projections (Luong et al. 2015)."""
    mode = node.options.choice("score_mode", "dot", ("dot", "concat"))
    query, value, key = _plain_sources(walk, node)
    used = node.options.flag("use_scale")
    slots = [Slot("scale", (), "ones") if used else None]
    slots.append(Slot("concat_score_weight", (), "ones", index=int(used)) if mode == "concat" else None)
    arrays = walk.weights(node, *slots)
    numbers = {name: _number(walk, node, name, array) for name, array in arrays.items()}
    if mode == "dot":
        turned = walk.arranged(key, (0, 2, 1))
        scores = walk.emit("MatMul", [query.value, turned.value], identity(3), "scores")
        scores = walk.same("Mul", scores, numbers["scale"]) if used else scores
    else:
        pairs = _pairs(walk, query, key)
        pairs = walk.same("Tanh", walk.same("Mul", pairs, numbers["scale"]) if used else pairs)
        total = walk.emit("ReduceSum", [pairs.value, walk.ints([3], "axes")], identity(3), "scores", keepdims=0)
        scores = walk.same("Mul", total, numbers["concat_score_weight"], what="weighted")
    return _mixed(walk, node, scores, query, value)


def _number(walk: Walk, node: LayerNode, name: str, array: np.ndarray) -> ir.Value:
    return walk.parameter(node, name, array.reshape(1))


@layer("AdditiveAttention")
def additive_attention(walk: Walk, node: LayerNode) -> list[Held] | Held:
    """softmax(sum(scale tanh(q + k))) v (Bahdanau et al. 2015)."""
    query, value, key = _plain_sources(walk, node)
    pairs = walk.same("Tanh", _pairs(walk, query, key))
    if node.options.flag("use_scale", True):
        width = (query.size(2, f"layer {node.name!r}"),)
        scale = walk.parameter(node, "scale", walk.weights(node, Slot("scale", width, "random"))["scale"])
        pairs = walk.same("Mul", pairs, scale)
    scores = walk.emit("ReduceSum", [pairs.value, walk.ints([3], "axes")], identity(3), "scores", keepdims=0)
    return _mixed(walk, node, scores, query, value)


def _pairs(walk: Walk, query: Held, key: Held) -> Held:
    """Return the sums (batch, queries, keys, features) of every query and every key."""
    column = walk.emit("Unsqueeze", [query.value, walk.ints([2], "column")], identity(4), "queries")
    row = walk.emit("Unsqueeze", [key.value, walk.ints([1], "row")], identity(4), "keys")
    return walk.same("Add", column, row.value)


def _plain_sources(walk: Walk, node: LayerNode) -> tuple[Held, Held, Held]:
    """Return query, value and key of a layer that gets them as a list."""
    given = [walk.plain(x) for x in _listed(node)]
    if not 2 <= len(given) <= 3 or any(x.rank != 3 for x in given):
        raise UnsupportedError("inputs that are not (batch, steps, features)")
    return given[0], given[1], given[-1] if len(given) == 3 else given[1]


def _listed(node: LayerNode) -> list[Held]:
    given = node.argument(0, "inputs")
    return [x for x in given if isinstance(x, Held)] if isinstance(given, (list, tuple)) else []


def _mixed(walk: Walk, node: LayerNode, scores: Held, query: Held, value: Held) -> list[Held] | Held:
    """Return values weighted by scores, of steps that count; a query that does not count gives zeros."""
    told = node.argument(1, "mask", default=None)
    told = list(told) if isinstance(told, (list, tuple)) else [None, None]
    by_query, by_value = (mask_of(walk, x, mask) for x, mask in zip(_listed(node), told, strict=False))
    scores = _masked(walk, node, scores, (query, value), by_value)
    weights = walk.same("Softmax", scores, axis=2)
    mixed = walk.emit("MatMul", [weights.value, value.value], identity(3), "mixed")
    if by_query is not None:
        column = walk.emit("Unsqueeze", [walk.plain(by_query()).value, walk.ints([2], "last")], what="query_mask")
        mixed = walk.emit("Where", [column.value, mixed.value, walk.number(0.0, "nothing")], identity(3), "result")
        walk.masks[mixed.value] = by_query
    return [mixed, weights] if node.argument(9, "return_attention_scores", default=False) else mixed


def _masked(walk: Walk, node: LayerNode, scores: Held, sources: tuple[Held, Held], by_value: Mask | None) -> Held:
    """Lower the scores (batch, queries, keys) of what may not be looked at, as Keras does it, by a number."""
    fixed = _fixed(walk, node, *sources)
    kept = None if fixed is None else walk.constant(fixed[None], "causal", np.bool_)
    if by_value is not None:
        row = walk.emit("Unsqueeze", [walk.plain(by_value()).value, walk.ints([1], "row_axis")], what="mask")
        kept = row.value if kept is None else walk.emit("And", [row.value, kept], identity(3), "mask/and").value
    if kept is None:
        return scores
    lower = walk.same("Add", scores, walk.number(_MASKED, "masked"), what="lower")
    return walk.emit("Where", [kept, scores.value, lower.value], identity(3), "kept")
