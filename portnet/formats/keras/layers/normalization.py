"""Normalization, and what keras.applications scales its residuals with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.config import parse_layer
from portnet.formats.keras.held import Held
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.options import Options
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

# what SpectralNormalization may have inside
_WITH_KERNEL = {
    *("Dense", "EinsumDense", "Embedding", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
}


@layer("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
def batch_norm(walk: Walk, node: LayerNode) -> Held:
    """Scale, shift, mean and variance of one axis; ε and momentum as they are."""
    options, x = node.options, node.input
    options.refuse("renorm")
    options.refuse("virtual_batch_size")
    axes = options.axes("axis", -1)
    if len(axes) != 1:
        raise UnsupportedError(f"axis={axes}")
    if node.shared and x.packing is not None:
        x = walk.plain(x)
    if x.packing is None:
        axis = x.positive(axes[0])
        if x.order[1] != axis:
            x = walk.arranged(x, (0, axis, *(a for a in range(1, x.rank) if a != axis)))
    shape = (x.size(x.order[1], f"layer {node.name!r}"),)
    scale, center = options.flag("scale", True), options.flag("center", True)
    names = [name for name, used in (("gamma", scale), ("beta", center)) if used] + ["moving_mean", "moving_variance"]
    fills = {"gamma": "ones", "moving_variance": "ones"}
    slots = [Slot(name, shape, fills.get(name, "zeros"), index=i) for i, name in enumerate(names)]  # type: ignore[arg-type]
    arrays = walk.weights(node, *slots)
    places = x.packing.permutation if x.packing is not None else None
    values = {name: walk.parameter(node, name, _sorted(array, places)) for name, array in arrays.items()}
    gamma = values.get("gamma") or walk.filled(shape, 1, "gamma")
    beta = values.get("beta") or walk.filled(shape, 0, "beta")
    return walk.same(
        "BatchNormalization",
        x,
        gamma,
        beta,
        values["moving_mean"],
        values["moving_variance"],
        epsilon=options.number("epsilon", 1e-3),
        momentum=options.number("momentum", 0.99),
    )


def _sorted(array: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    return array if places is None else array[places]


@layer("LayerNormalization")
def layer_norm(walk: Walk, node: LayerNode) -> Held:
    """Over the axes named, which ONNX wants last."""
    options, x = node.options, node.input
    options.refuse("rms_scaling")
    axes = sorted({x.positive(axis) for axis in options.axes("axis", -1)})
    kept = [axis for axis in x.order if axis not in axes]
    x = walk.arranged(x, (*kept, *axes))
    shape = tuple(x.size(axis, f"layer {node.name!r}") for axis in axes)
    scale, center = options.flag("scale", True), options.flag("center", True)
    arrays = walk.weights(
        node,
        Slot("gamma", shape, "ones") if scale else None,
        Slot("beta", shape, index=int(scale)) if center else None,
    )
    gamma = walk.parameter(node, "gamma", arrays["gamma"]) if scale else walk.filled(shape, 1, "gamma")
    inputs = [gamma] + ([walk.parameter(node, "beta", arrays["beta"])] if center else [])
    return walk.same("LayerNormalization", x, *inputs, axis=-len(axes), epsilon=options.number("epsilon", 1e-3))


@layer("GroupNormalization")
def group_norm(walk: Walk, node: LayerNode) -> Held:
    """Over groups of channels and all places."""
    options, x = node.options, node.input
    axes = options.axes("axis", -1)
    if len(axes) != 1 or x.rank < 3:
        raise UnsupportedError(f"axis={axes} of {x.rank} axes")
    axis = x.positive(axes[0])
    if x.order[1] != axis:
        x = walk.arranged(x, (0, axis, *(a for a in range(1, x.rank) if a != axis)))
    channels = x.size(axis, f"layer {node.name!r}")
    groups = options.integer("groups", 32, low=-1)
    groups = channels if groups == -1 else groups
    if not groups or channels % groups:
        raise options.wrong("groups", f"a divisor of {channels} channels")
    scale, center = options.flag("scale", True), options.flag("center", True)
    arrays = walk.weights(
        node,
        Slot("gamma", (channels,), "ones") if scale else None,
        Slot("beta", (channels,), index=int(scale)) if center else None,
    )
    gamma = walk.parameter(node, "gamma", arrays["gamma"]) if scale else walk.filled((channels,), 1, "gamma")
    beta = walk.parameter(node, "beta", arrays["beta"]) if center else walk.filled((channels,), 0, "beta")
    result = walk.same("GroupNormalization", x, gamma, beta, num_groups=groups, epsilon=options.number("epsilon", 1e-3))
    return _shaped_as(result, x)


@layer("UnitNormalization")
def unit_norm(walk: Walk, node: LayerNode) -> Held:
    """Length 1 over the axes named; the square of a length is at least 1e-12."""
    x = node.input if node.input.packing is None else walk.plain(node.input)
    axes = sorted(x.axis(axis) for axis in node.options.axes("axis", -1))
    square = walk.same("Mul", x, x.value, what="square")
    total = walk.emit("ReduceSum", [square.value, walk.ints(axes, "axes")], x.order, keepdims=1)
    length = walk.same("Sqrt", walk.same("Max", total, walk.number(1e-12, "smallest")))
    return walk.same("Div", x, length.value)


@layer("RMSNormalization")
def rms_norm(walk: Walk, node: LayerNode) -> Held:
    """Divided by the root of the mean square over one axis, times a learned scale."""
    x = node.input if node.input.packing is None else walk.plain(node.input)
    axes = node.options.axes("axis", -1)
    if len(axes) != 1:
        raise UnsupportedError(f"axis={axes}")
    axis = x.positive(axes[0])
    scale = walk.weights(node, Slot("scale", (x.size(axis, f"layer {node.name!r}"),), "ones"))["scale"]
    square = walk.same("Mul", x, x.value, what="square")
    mean = walk.emit("ReduceMean", [square.value, walk.ints([x.axis(axis)], "axes")], x.order, keepdims=1)
    root = walk.same("Sqrt", walk.same("Add", mean, walk.number(node.options.number("epsilon", 1e-6), "epsilon")))
    return walk.same("Mul", walk.same("Div", x, root.value), _along(walk, node, "scale", scale, x, axis))


@layer("SpectralNormalization")
def spectral_norm(walk: Walk, node: LayerNode) -> Held:
    """The layer inside: its kernel is divided by its largest singular value in training alone (Miyato et al. 2018)."""
    inner = parse_layer(node.options.get("layer"))
    if inner.network is not None or inner.kind not in _WITH_KERNEL:
        raise UnsupportedError(f"{inner.kind} inside")
    walk.note("SpectralNormalization divides no kernel in training any more.")
    group = f"{node.group}/layer" if node.group else "layer"
    return walk.inside(replace(node, kind=inner.kind, options=Options(inner.options, node.name), group=group), None)[0]


@layer("LayerScale")
def layer_scale(walk: Walk, node: LayerNode) -> Held:
    """Learned factors of the channels, as ConvNeXt of keras.applications has them."""
    x = node.input if node.input.packing is None else walk.plain(node.input)
    width = x.size(-1, f"layer {node.name!r}")
    gamma = walk.weights(node, Slot("gamma", (width,), "ones"))["gamma"]
    return walk.same("Mul", x, _along(walk, node, "gamma", gamma, x, x.rank - 1))


def _along(walk: Walk, node: LayerNode, name: str, array: np.ndarray, x: Held, axis: int) -> ir.Value:
    """Return a learned vector that lies along one of Keras's axes."""
    if node.shared:
        return walk.parameter(node, name, array) if x.order[-1] == axis else _moved(walk, node, name, array, x, axis)
    return walk.parameter(node, name, array.reshape([-1] + [1] * (x.rank - 1 - x.axis(axis))))


def _moved(walk: Walk, node: LayerNode, name: str, array: np.ndarray, x: Held, axis: int) -> ir.Value:
    shape = walk.ints([-1] + [1] * (x.rank - 1 - x.axis(axis)), "shape")
    return walk.writer.node("Reshape", [walk.parameter(node, name, array), shape], f"{node.name}/{name}/reshape")


def _shaped_as(result: Held, x: Held) -> Held:
    """Say the shape that the standard's inference does not find."""
    result.value.shape, result.value.type = x.value.shape, x.value.type
    return result
