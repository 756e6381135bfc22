"""Normalisations."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import ONES, ZEROS, Layer, Refused, op


@op("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "_contrib_SyncBatchNorm")
def batch_norm(layer: Layer) -> ir.Value:
    """``fix_gamma``, which is the default, means that the scale is 1, whatever the file holds."""
    layer.attributes.ignore("key", "ndev", "output_mean_var")
    x = layer.value(0)
    rank = layer.rank(x)
    axis = layer.axis(layer.attributes.integer("axis", 1), rank)
    width = layer.size(x, axis)
    fixed = layer.attributes.flag("fix_gamma", True)
    gamma = layer.fixed(1, width, 1) if fixed else layer.parameter(1, (width,), ONES)
    beta = layer.parameter(2, (width,), ZEROS)
    statistics = [layer.parameter(3, (width,), ZEROS), layer.parameter(4, (width,), ONES)]
    if layer.attributes.flag("use_global_stats", False):
        layer.note("BatchNorm with use_global_stats: freeze its statistics when you train on")
    inputs = [gamma, beta, *statistics]
    # MXNet's own defaults are those of float32
    attributes = {"epsilon": layer.attributes.number("eps", 1e-3), "momentum": layer.attributes.number("momentum", 0.9)}
    if axis == 1:
        return layer.final("BatchNormalization", [x, *inputs], **attributes)
    order = [0, axis, *(i for i in range(1, rank) if i != axis)] if axis else [1, 0, *range(2, rank)]
    first = layer.permuted(x, order, "channels_first")
    normal = layer.step("BatchNormalization", [first, *inputs], "norm", **attributes)
    return layer.final("Transpose", [normal], perm=[order.index(i) for i in range(rank)])


@op("LRN")
def lrn(layer: Layer) -> ir.Value:
    get = layer.attributes
    return layer.final(
        "LRN",
        [layer.value(0)],
        size=get.integer("nsize", least=1),
        alpha=get.number("alpha", 1e-4),
        beta=get.number("beta", 0.75),
        bias=get.number("knorm", 2.0),
    )


@op("InstanceNorm")
def instance_norm(layer: Layer) -> ir.Value:
    x = layer.value(0)
    width = (layer.size(x, 1),)
    inputs = [x, layer.parameter(1, width, ONES), layer.parameter(2, width, ZEROS)]
    return layer.final("InstanceNormalization", inputs, epsilon=layer.attributes.number("eps", 1e-3))


@op("LayerNorm")
def layer_norm(layer: Layer) -> ir.Value:
    layer.attributes.ignore("output_mean_var")
    x = layer.value(0)
    rank = layer.rank(x)
    axis = layer.axis(layer.attributes.integer("axis", -1), rank)
    width = (layer.size(x, axis),)
    affine = [layer.parameter(1, width, ONES), layer.parameter(2, width, ZEROS)]
    epsilon = layer.attributes.number("eps", 1e-5)
    if axis == rank - 1:
        return layer.final("LayerNormalization", [x, *affine], axis=-1, epsilon=epsilon)
    order = [*(i for i in range(rank) if i != axis), axis]
    last = layer.permuted(x, order, "axis_last")
    normal = layer.step("LayerNormalization", [last, *affine], "norm", axis=-1, epsilon=epsilon)
    return layer.final("Transpose", [normal], perm=[order.index(i) for i in range(rank)])


@op("GroupNorm")
def group_norm(layer: Layer) -> ir.Value:
    """MXNet 1.x has a scale and a shift for each group, not for each channel: InstanceNorm of the groups."""
    layer.attributes.ignore("output_mean_var")
    x = layer.value(0)
    groups = layer.attributes.integer("num_groups", 1, least=1)
    sizes = layer.sizes(x)
    if layer.size(x, 1) % groups or any(size is None for size in sizes[1:]):
        raise Refused(f"num_groups={groups} on sizes {sizes}")
    affine = [layer.parameter(1, (groups,), ONES), layer.parameter(2, (groups,), ZEROS)]
    grouped = layer.step("Reshape", [x, layer.ints([0, groups, -1], "groups")], "grouped")
    normal = layer.step(
        "InstanceNormalization", [grouped, *affine], "norm", epsilon=layer.attributes.number("eps", 1e-5)
    )
    whole = layer.ints([0, *(size for size in sizes[1:] if size is not None)], "shape")
    return layer.final("Reshape", [normal, whole])


@op("L2Normalization")
def l2_normalization(layer: Layer) -> ir.Value:
    """x / √(Σx² + eps) over one example, over its channels, or over its places."""
    x, mode = layer.value(0), layer.attributes.text("mode", "instance")
    rank = layer.rank(x)
    axes = {"instance": range(1, rank), "channel": range(1, 2), "spatial": range(2, rank)}.get(mode)
    if axes is None:
        raise Refused(f"mode={mode}")
    if not axes or axes[-1] >= rank:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): mode {mode} of a tensor of {rank} axes")
    total = layer.step("ReduceSumSquare", [x, layer.ints(axes, "axes")], "squares", keepdims=1)
    total = layer.step("Add", [total, layer.scalar(layer.attributes.number("eps", 1e-10), x, "eps")], "sum")
    return layer.final("Div", [x, layer.step("Sqrt", [total], "norm")])
