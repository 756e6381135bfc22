"""Normalization layers."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet.graph.parameters import Role
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, op


@op("BatchNormalization")
def batch_normalization(walk: Any, node: NodeView) -> Symbol | list[Symbol]:
    """``mx.sym.BatchNorm`` over its own statistics; arithmetic where the statistics are computed or given out."""
    statistics = [node.required(3), node.required(4)]
    if node.get("training_mode", 0):
        return _batch_normalization_in_training(walk, node)
    if any(walk.roles.get(value.name) is not Role.STATISTIC for value in statistics):
        x, scale, bias, mean, variance = walk.args(node)
        return _normalize(x, mean, variance, scale, bias, node["epsilon"], walk.rank(node.required(0)))
    return _native_batch_norm(walk, node)


def _native_batch_norm(walk: Any, node: NodeView) -> Symbol:
    mean, variance = node.required(3).name, node.required(4).name
    frozen = not walk.variant.frozen_statistics.isdisjoint((mean, variance))
    arguments = list(walk.args(node))
    if mean in walk.variant.silent:
        axes = [0, *range(2, walk.rank(node.required(0)))]
        moments = mx.sym.moments(mx.sym.BlockGrad(arguments[0]), axes=axes)
        walk.batch_moments += [(mean, moments[0], node["momentum"]), (variance, moments[1], node["momentum"])]
    options = {
        **{"eps": node["epsilon"], "momentum": node["momentum"], "fix_gamma": False},
        **{"use_global_stats": frozen, "name": node.name},
    }
    if walk.rank(node.required(0)) != 2 or not _reads_maps(walk.graph):
        return mx.sym.BatchNorm(*arguments, **options)
    # oneDNN's kernel for two axes ends the process behind some pooled maps of one pixel
    pixel = mx.sym.reshape(arguments[0], shape=(0, 0, 1, 1))
    return mx.sym.reshape(mx.sym.BatchNorm(pixel, *arguments[1:], **options), shape=(0, 0))


def _reads_maps(graph: ir.Graph) -> bool:
    return any(node.op_type in ("Conv", "ConvTranspose") for node in graph)


def _batch_normalization_in_training(walk: Any, node: NodeView) -> list[Symbol]:
    x, scale, bias, mean, variance = walk.args(node)
    rank, momentum = walk.rank(node.required(0)), node["momentum"]
    batch_mean, batch_variance = mx.sym.moments(x, axes=[0, *range(2, rank)])
    return [
        _normalize(x, batch_mean, batch_variance, scale, bias, node["epsilon"], rank),
        mean * momentum + batch_mean * (1 - momentum),
        variance * momentum + batch_variance * (1 - momentum),
    ]


def _normalize(
    x: Symbol, mean: Symbol, variance: Symbol, scale: Symbol, bias: Symbol, epsilon: float, rank: int
) -> Symbol:
    def per_channel(array: Symbol) -> Symbol:
        return mx.sym.reshape(array, shape=[1, -1, *[1] * (rank - 2)]) if rank > 1 else array

    inverse = mx.sym.rsqrt(variance + epsilon)
    centred = mx.sym.broadcast_sub(x, per_channel(mean))
    scaled = mx.sym.broadcast_mul(centred, per_channel(scale * inverse))
    return mx.sym.broadcast_add(scaled, per_channel(bias))


@op("InstanceNormalization")
def instance_normalization(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.InstanceNorm``; arithmetic where it has no kernel: for float64, and for channels of one element."""
    x, scale, bias = walk.args(node)
    source, rank = node.required(0), walk.rank(node.required(0))
    if rank > 2 and source.dtype != ir.DataType.DOUBLE:
        return mx.sym.InstanceNorm(x, scale, bias, eps=node["epsilon"], name=node.name)
    scale, bias = (mx.sym.reshape(array, shape=[1, -1, *[1] * (rank - 2)]) for array in (scale, bias))
    axes = tuple(range(2, rank))
    centred = mx.sym.broadcast_sub(x, mx.sym.mean(x, axis=axes, keepdims=True) if axes else x)
    variance = mx.sym.square(centred)
    variance = mx.sym.mean(variance, axis=axes, keepdims=True) if axes else variance
    normal = mx.sym.broadcast_mul(centred, mx.sym.rsqrt(variance + node["epsilon"]))
    return mx.sym.broadcast_add(mx.sym.broadcast_mul(normal, scale), bias, name=node.name)


@op("LayerNormalization")
def layer_normalization(walk: Any, node: NodeView) -> Symbol | list[Symbol]:
    """``mx.sym.LayerNorm`` over the last axis; arithmetic over more axes or where mean and deviation are given out."""
    rank = walk.rank(node.required(0))
    axis = walk.axis(node, rank)
    x, scale, bias = walk.value(node.required(0)), walk.value(node.required(1)), walk.optional(node.input(2))
    shapes = [walk.static_shape(value) for value in node.inputs[1:] if value is not None]
    whole = bias is not None and shapes[0] == shapes[1] and shapes[0] != (1,) and len(shapes[0]) == 1
    if axis == rank - 1 and whole and len(node.outputs) == 1:
        return mx.sym.LayerNorm(x, scale, bias, axis=-1, eps=node["epsilon"], name=node.name)
    axes = tuple(range(axis, rank))
    mean = mx.sym.mean(x, axis=axes, keepdims=True)
    centred = mx.sym.broadcast_sub(x, mean)
    inverse = mx.sym.rsqrt(mx.sym.mean(mx.sym.square(centred), axis=axes, keepdims=True) + node["epsilon"])
    y = mx.sym.broadcast_mul(mx.sym.broadcast_mul(centred, inverse), scale)
    return [y if bias is None else mx.sym.broadcast_add(y, bias), mean, inverse]


@op("LpNormalization")
def lp_normalization(walk: Any, node: NodeView) -> Symbol:
    """x over its 1- or 2-norm along an axis; zero where the norm is zero."""
    x, axis = walk.value(node.required(0)), node["axis"]
    powers = mx.sym.abs(x) if node["p"] == 1 else mx.sym.square(x)
    total = mx.sym.sum(powers, axis=axis, keepdims=True)
    norm = total if node["p"] == 1 else mx.sym.sqrt(total)
    return mx.sym.broadcast_div(x, mx.sym.where(norm == 0, mx.sym.ones_like(norm), norm), name=node.name)


@op("LRN")
def lrn(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.LRN``, whose formula is ONNX's; arithmetic for even sizes and float64, which it lacks."""
    x = walk.value(node.required(0))
    if node["size"] % 2 == 0 or node.required(0).dtype == ir.DataType.DOUBLE:
        return _lrn_by_arithmetic(walk, node, x)
    return mx.sym.LRN(
        x,
        alpha=node["alpha"],
        beta=node["beta"],
        knorm=node["bias"],
        nsize=node["size"],
        name=node.name,
    )


def _lrn_by_arithmetic(walk: Any, node: NodeView, x: Symbol) -> Symbol:
    channels, size = (walk.static_shape(node.required(0)) or (None, None))[1], node["size"]
    if channels is None:
        raise walk.unsupported(
            f"size: got {size} of {node.required(0).dtype} over channels that are free, expected fixed ones"
        )
    squares = mx.sym.square(x)
    none = mx.sym.zeros_like(mx.sym.slice_axis(squares, axis=1, begin=0, end=1))
    padded = mx.sym.concat(*[none] * ((size - 1) // 2), squares, *[none] * (size // 2), dim=1)
    total = mx.sym.add_n(*(mx.sym.slice_axis(padded, axis=1, begin=i, end=i + channels) for i in range(size)))
    return mx.sym.broadcast_div(x, (total * (node["alpha"] / size) + node["bias"]) ** node["beta"], name=node.name)


@op("Dropout")
def dropout(walk: Any, node: NodeView) -> Symbol | list[Symbol]:
    """``mx.sym.Dropout``, live while the network trains, the identity elsewhere; the mask is then all true.

    The standard's ``training_mode`` asks for dropout in inference too, whose numbers no two engines share.
    """
    training = node.input(2)
    if training is not None and bool(walk.host(training).item()):
        raise walk.unsupported("training_mode: got true; what it drops in inference is random")
    ratio = 0.5 if node.input(1) is None else float(walk.host(node.required(1)).item())
    x = walk.value(node.required(0))
    y = mx.sym.Dropout(x, p=ratio, name=node.name) if ratio else mx.sym.identity(x, name=node.name)
    return [y, mx.sym.cast(mx.sym.ones_like(x), dtype="bool")] if len(node.outputs) > 1 else y
