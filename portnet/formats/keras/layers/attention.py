"""Attention: of several heads with learned projections, and plain."""

from __future__ import annotations

import math

import numpy as np

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import LayerNode, Walk
from portnet.graph.parameters import ROLE_MARK, Role

__all__: list[str] = []

_MASKED = -1e9
_MAX_STEPS = 8192


@layer("MultiHeadAttention")
def multi_head(walk: Walk, node: LayerNode) -> list[Held] | Held:
    """softmax(q kᵀ / √d) v for each head, between dense layers (Vaswani et al. 2017)."""
    options = node.options
    for option in ("use_gate", "sliding_window"):
        options.refuse(option)
    query, value, key = _sources(walk, node)
    heads, depth = options.integer("num_heads"), options.integer("key_dim")
    value_depth = options.integer("value_dim", depth)
    widths = {name: x.size(2, f"layer {node.name!r}") for name, x in zip("qkv", (query, key, value), strict=True)}
    output = options.get("output_shape")
    output = output[0] if isinstance(output, (list, tuple)) and len(output) == 1 else output
    output = widths["q"] if output is None else options.integer("output_shape") if isinstance(output, int) else output
    if not isinstance(output, int):
        raise UnsupportedError("output_shape of several axes")
    used = options.flag("use_bias", True)
    names = ("query", "key", "value", "attention_output")
    groups = ("query_dense", "key_dense", "value_dense", "output_dense")
    kernels = (
        (widths["q"], heads, depth),
        (widths["k"], heads, depth),
        (widths["v"], heads, value_depth),
        (heads, value_depth, output),
    )
    biases = ((heads, depth), (heads, depth), (heads, value_depth), (output,))
    slots = []
    for name, group, kernel, bias in zip(names, groups, kernels, biases, strict=True):
        slots.append(Slot(f"{name}/kernel", kernel, "random", group))
        slots += [Slot(f"{name}/bias", bias, "zeros", group, 1)] if used else []
    arrays = walk.weights(node, *slots)
    q = _heads(walk, node, "query", arrays, query, heads, depth, (0, 2, 1, 3))
    k = _heads(walk, node, "key", arrays, key, heads, depth, (0, 2, 3, 1))
    v = _heads(walk, node, "value", arrays, value, heads, value_depth, (0, 2, 1, 3))
    scaled = walk.same("Mul", q, walk.number(1 / math.sqrt(depth), "scale"))
    scores = walk.emit("MatMul", [scaled.value, k.value], identity(4), "scores")
    if node.argument(9, "use_causal_mask", default=False):
        scores = _causal(walk, node, scores, query, key)
    weights = walk.same("Softmax", scores, axis=3)
    mixed = walk.emit("MatMul", [weights.value, v.value], identity(4), "mixed")
    moved = walk.emit("Transpose", [mixed.value], identity(4), perm=(0, 2, 1, 3))
    flat = walk.emit("Reshape", [moved.value, walk.ints([0, 0, heads * value_depth], "flat")], identity(3))
    result = _projected(walk, node, "attention_output", arrays, flat, heads * value_depth, output)
    return [result, weights] if node.argument(9, "return_attention_scores", default=False) else result


def _sources(walk: Walk, node: LayerNode) -> tuple[Held, Held, Held]:
    """Return query, value and key; the key is the value where it is left out."""
    for name in ("attention_mask", "query_mask", "value_mask", "key_mask", "mask"):
        if node.kwargs.get(name) is not None:
            raise UnsupportedError(name)
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


def _heads(
    walk: Walk,
    node: LayerNode,
    name: str,
    arrays: dict[str, np.ndarray],
    x: Held,
    heads: int,
    depth: int,
    perm: tuple[int, ...],
) -> Held:
    """Return a projection (batch, heads, steps, depth), or with the last two exchanged."""
    width = x.size(2, f"layer {node.name!r}")
    flat = _projected(walk, node, name, arrays, x, width, heads * depth)
    split = walk.emit("Reshape", [flat.value, walk.ints([0, 0, heads, depth], f"{name}/shape")], identity(4))
    return walk.emit("Transpose", [split.value], identity(4), f"{name}/transpose", perm=perm)


def _projected(
    walk: Walk, node: LayerNode, name: str, arrays: dict[str, np.ndarray], x: Held, width: int, out: int
) -> Held:
    kernel = walk.parameter(node, f"{name}/kernel", arrays[f"{name}/kernel"].reshape(width, out))
    result = walk.emit("MatMul", [x.value, kernel], x.order, f"{name}/matmul")
    if f"{name}/bias" not in arrays:
        return result
    bias = walk.parameter(node, f"{name}/bias", arrays[f"{name}/bias"].reshape(out))
    return walk.same("Add", result, bias, what=f"{name}/add")


def _causal(walk: Walk, node: LayerNode, scores: Held, query: Held, key: Held) -> Held:
    """Keep each step from those after it."""
    steps, others = (x.size(1, f"layer {node.name!r}") for x in (query, key))
    if max(steps, others) > _MAX_STEPS:
        raise ModelError(f"layer {node.name!r}: got {max(steps, others)} steps, expected at most {_MAX_STEPS}")
    mask = np.triu(np.full((steps, others), _MASKED, np.float32), 1)
    return walk.same("Add", scores, walk.constant(mask, "mask"))


@layer("Attention")
def attention(walk: Walk, node: LayerNode) -> Held:
    """softmax(q kᵀ) v, without projections (Luong et al. 2015)."""
    if node.options.choice("score_mode", "dot", ("dot",)) != "dot":
        raise UnsupportedError("score_mode")
    query, value, key = _plain_sources(walk, node)
    turned = walk.arranged(key, (0, 2, 1))
    scores = walk.emit("MatMul", [query.value, turned.value], identity(3), "scores")
    if node.options.flag("use_scale"):
        scale = walk.parameter(node, "scale", walk.weights(node, Slot("scale", (), "ones"))["scale"].reshape(1))
        scale.metadata_props[ROLE_MARK] = Role.BIAS.name  # one number alone is else taken for a constant
        scores = walk.same("Mul", scores, scale)
    return _mixed(walk, scores, value)


@layer("AdditiveAttention")
def additive_attention(walk: Walk, node: LayerNode) -> Held:
    """softmax(sum(scale tanh(q + k))) v (Bahdanau et al. 2015)."""
    query, value, key = _plain_sources(walk, node)
    column = walk.emit("Unsqueeze", [query.value, walk.ints([2], "column")], identity(4), "queries")
    row = walk.emit("Unsqueeze", [key.value, walk.ints([1], "row")], identity(4), "keys")
    pairs = walk.same("Tanh", walk.same("Add", column, row.value))
    if node.options.flag("use_scale", True):
        width = (query.size(2, f"layer {node.name!r}"),)
        scale = walk.parameter(node, "scale", walk.weights(node, Slot("scale", width, "random"))["scale"])
        pairs = walk.same("Mul", pairs, scale)
    scores = walk.emit("ReduceSum", [pairs.value, walk.ints([3], "axes")], identity(3), "scores", keepdims=0)
    return _mixed(walk, scores, value)


def _plain_sources(walk: Walk, node: LayerNode) -> tuple[Held, Held, Held]:
    """Return query, value and key of a layer that gets them as a list."""
    if node.kwargs.get("mask") is not None:
        raise UnsupportedError("a mask")
    for option in ("use_causal_mask", "return_attention_scores"):
        if node.argument(9, option, default=False):
            raise UnsupportedError(option)
    given = [walk.plain(x) for x in node.inputs]
    if not 2 <= len(given) <= 3 or any(x.rank != 3 for x in given):
        raise UnsupportedError("inputs that are not (batch, steps, features)")
    return given[0], given[1], given[-1] if len(given) == 3 else given[1]


def _mixed(walk: Walk, scores: Held, value: Held) -> Held:
    weights = walk.same("Softmax", scores, axis=2)
    return walk.emit("MatMul", [weights.value, value.value], identity(3), "mixed")
