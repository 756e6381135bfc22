"""Scaling, resizing, layers that act in training alone, and those that do nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.shape import INTERPOLATIONS
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_MAX_PADDED = 1 << 28


@layer("Rescaling")
def rescaling(walk: Walk, node: LayerNode) -> Held:
    """Times ``scale``, plus ``offset``; a list has one number for each of the last axis."""
    x = _as_float(walk, node.input)
    scaled = walk.same("Mul", x, _numbers(walk, node, x, "scale"))
    offset = node.options.get("offset", 0)
    return scaled if offset in (0, 0.0) else walk.same("Add", scaled, _numbers(walk, node, x, "offset"))


def _numbers(walk: Walk, node: LayerNode, x: Held, key: str) -> ir.Value:
    return walk.constant(_along_last(_listed(node, key), x, node), key)


def _listed(node: LayerNode, key: str) -> np.ndarray:
    """Return a number or nested lists of numbers of the configuration; Keras 3 wraps arrays."""
    value = node.options.get(key, 0)
    if isinstance(value, dict):
        value = value.get("config", {}).get("value")
    array = np.asarray(value, np.float32)
    if not np.isfinite(array).all():
        raise node.options.wrong(key, "finite numbers")
    return array


def _along_last(array: np.ndarray, x: Held, node: LayerNode) -> np.ndarray:
    """Lay out an array that Keras broadcasts against a tensor's last axes."""
    if array.ndim == 0:
        return array
    if array.ndim > x.rank or x.packing is not None:
        raise ModelError(f"layer {node.name!r}: got numbers of {array.ndim} axes for a tensor of {x.rank}")
    full = array.reshape([1] * (x.rank - array.ndim) + list(array.shape))
    return full.transpose(x.order)


@layer("Normalization")
def normalization(walk: Walk, node: LayerNode) -> Held:
    """Less the mean, over the root of the variance; both were given, or found in data. Never trained."""
    options, x = node.options, _as_float(walk, node.input)
    if x.packing is not None:
        x = walk.plain(x)
    # of all numbers alike; Keras writes None or no axes
    axes = [] if options.values.get("axis", -1) in (None, [], ()) else options.axes("axis", -1)
    axes = sorted(x.positive(axis) for axis in axes)
    if "mean" in options:
        mean, variance = _listed(node, "mean"), _listed(node, "variance")
    else:
        shape = tuple(x.size(axis, f"layer {node.name!r}") for axis in axes)
        arrays = walk.weights(node, Slot("mean", shape), Slot("variance", shape, "ones", index=1))
        mean, variance = arrays["mean"], arrays["variance"]
    mean, variance = (_on_axes(array, axes, x) for array in (mean, variance))
    deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))
    first, second = ("Mul", "Add") if options.flag("invert") else ("Sub", "Div")
    arrays = {"Mul": deviation, "Add": mean, "Sub": mean, "Div": deviation}
    names = {"Mul": "deviation", "Add": "mean", "Sub": "mean", "Div": "deviation"}
    result = walk.same(first, x, walk.constant(arrays[first], names[first]))
    return walk.same(second, result, walk.constant(arrays[second], names[second]))


def _on_axes(array: np.ndarray, axes: list[int], x: Held) -> np.ndarray:
    if array.ndim == 0:
        return array
    sizes = [x.shape[axis] for axis in axes]
    broadcast = np.broadcast_to(array.reshape([n for n in array.shape if n != 1] or [1]), [n or 1 for n in sizes])
    full = broadcast.reshape([sizes[axes.index(axis)] or 1 if axis in axes else 1 for axis in range(x.rank)])
    return np.ascontiguousarray(full.transpose(x.order))


def _as_float(walk: Walk, x: Held) -> Held:
    if x.value.dtype == ir.DataType.FLOAT:
        return x
    return walk.same("Cast", x, to=ir.DataType.FLOAT.value)


@layer("Resizing")
def resizing(walk: Walk, node: LayerNode) -> Held:
    """To a fixed height and width, by pixel centres; first cut or padded to that ratio where it is to be kept."""
    options = node.options
    x = walk.spatial(_as_float(walk, node.input), node, 2)
    if options.flag("crop_to_aspect_ratio"):
        x = _cropped_to_ratio(walk, node, x)
    elif options.flag("pad_to_aspect_ratio"):
        x = _padded_to_ratio(walk, node, x)
    kind = options.choice("interpolation", "bilinear", ("bilinear", "bicubic", "nearest"))
    nearest = {"mode": "nearest", "nearest_mode": "round_prefer_ceil", "coordinate_transformation_mode": "half_pixel"}
    sizes = walk.ints([options.integer("height"), options.integer("width")], "sizes")
    # TensorFlow's nearest pixel is the same with and without
    widened = {"antialias": 1, "exclude_outside": 1} if options.flag("antialias") and kind != "nearest" else {}
    return walk.emit(
        "Resize",
        [x.value, None, None, sizes],
        x.order,
        axes=[2, 3],
        **{**INTERPOLATIONS.get(kind, nearest), **widened},
    )


def _at_ratio(node: LayerNode, x: Held) -> tuple[list[int], list[int]]:
    """Return height and width of an image, and those that each has at the wanted ratio, as Keras rounds them."""
    sizes = [x.size(axis, f"layer {node.name!r}") for axis in x.order[2:]]
    height, width = node.options.integer("height"), node.options.integer("width")
    wanted = [np.float32(sizes[1] * height) / np.float32(width), np.float32(sizes[0] * width) / np.float32(height)]
    return sizes, [int(size) for size in wanted]


def _cropped_to_ratio(walk: Walk, node: LayerNode, x: Held) -> Held:
    sizes, wanted = _at_ratio(node, x)
    kept = [max(min(size, n), 1) for size, n in zip(sizes, wanted, strict=True)]
    starts = [(size - n) // 2 for size, n in zip(sizes, kept, strict=True)]
    ends = [start + n for start, n in zip(starts, kept, strict=True)]
    inputs = [walk.ints(starts, "starts"), walk.ints(ends, "ends"), walk.ints([2, 3], "axes")]
    return walk.emit("Slice", [x.value, *inputs], x.order)


def _padded_to_ratio(walk: Walk, node: LayerNode, x: Held) -> Held:
    """Pad both sides alike, so that an odd rest is left out."""
    node.options.choice("fill_mode", "constant", ("constant",))
    sizes, wanted = _at_ratio(node, x)
    margins = [(max(n, size) - size) // 2 for size, n in zip(sizes, wanted, strict=True)]
    if max(margins) * max(sizes) > _MAX_PADDED:
        raise ModelError(f"layer {node.name!r}: got margins {margins}, more than any image needs. Refused.")
    pads = walk.ints([0, 0, *margins, 0, 0, *margins], "pads")
    fill = walk.number(node.options.number("fill_value", 0.0), "fill")
    return walk.emit("Pad", [x.value, pads, fill], x.order)


@layer("Dropout")
def dropout(walk: Walk, node: LayerNode) -> Held:
    """Dropout stays Dropout."""
    x, rate = node.input, node.options.number("rate")
    if not 0 <= rate < 1:
        raise node.options.wrong("rate", "a number from 0 to 1")
    if rate == 0:
        return x
    if node.options.values.get("noise_shape") is not None:
        walk.note("Dropout that dropped whole samples or maps in training drops single numbers now.")
    return walk.same("Dropout", x, walk.number(rate, "ratio"))


_TRAINING_ONLY = (
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise"),
    *("AlphaDropout", "ActivityRegularization", "StochasticDepth"),
)
_AUGMENTATION = (
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
    *("RandomHeight", "RandomWidth", "RandomShear", "RandomHue", "RandomSaturation", "RandomColorJitter"),
    *("RandomGrayscale", "RandomColorDegeneration", "RandomPosterization", "RandomSharpness", "RandomInvert"),
    *("RandomPerspective", "RandomGaussianBlur", "RandomErasing", "RandomElasticTransform", "AutoContrast"),
    *("MixUp", "CutMix", "RandAugment", "AugMix", "Equalization", "Solarization"),
)
# these act in inference too
_ALWAYS = ("AutoContrast", "Equalization", "Solarization")


@layer(*_TRAINING_ONLY)
def training_only(walk: Walk, node: LayerNode) -> Held:
    """What inference passes by and ONNX has no op for."""
    walk.leave_out(node, "acts in training alone and was left out")
    return node.input


@layer(*(kind for kind in _AUGMENTATION if kind not in _ALWAYS))
def augmentation(walk: Walk, node: LayerNode) -> Held:
    """What changes images at random in training."""
    walk.leave_out(node, "is augmentation and was left out")
    return _as_float(walk, node.input)


@layer("RandomCrop", "CenterCrop")
def center_crop(walk: Walk, node: LayerNode) -> Held:
    """The middle, where the image is not smaller."""
    x = walk.spatial(node.input, node, 2)
    wanted = [node.options.integer("height"), node.options.integer("width")]
    sizes = [x.size(axis, f"layer {node.name!r}") for axis in x.order[2:]]
    if any(n > size for n, size in zip(wanted, sizes, strict=True)):
        raise UnsupportedError(f"sizes {sizes} smaller than the crop")
    starts = [(size - n) // 2 for n, size in zip(wanted, sizes, strict=True)]
    ends = [start + n for start, n in zip(starts, wanted, strict=True)]
    inputs = [walk.ints(starts, "starts"), walk.ints(ends, "ends"), walk.ints([2, 3], "axes")]
    return walk.emit("Slice", [x.value, *inputs], x.order)


@layer("Identity")
def same(walk: Walk, node: LayerNode) -> Held:
    """Nothing."""
    return node.input


@layer("CategoryEncoding")
def category_encoding(walk: Walk, node: LayerNode) -> Held:
    """Whole numbers as they are, as one-hot rows, or as what each row holds."""
    if node.argument(1, "count_weights") is not None:
        raise UnsupportedError("count_weights")
    mode = node.options.choice("output_mode", "multi_hot", ("one_hot", "multi_hot", "count", "int"))
    x, depth = walk.plain(node.input), node.options.integer("num_tokens") if mode != "int" else 0
    return _encoded(walk, x, mode, depth)


@layer("Discretization")
def discretization(walk: Walk, node: LayerNode) -> Held:
    """How many of the boundaries are not above a number; encoded as by CategoryEncoding."""
    options = node.options
    options.refuse("sparse")
    mode = options.choice("output_mode", "int", ("one_hot", "multi_hot", "count", "int"))
    bounds = options.get("bin_boundaries")
    if not isinstance(bounds, (list, tuple)) or not bounds or not all(isinstance(n, (int, float)) for n in bounds):
        raise UnsupportedError("boundaries that are not in its configuration")
    x = walk.plain(_as_float(walk, node.input))
    apart = walk.emit("Unsqueeze", [x.value, walk.ints([x.rank], "axes")], identity(x.rank + 1))
    above = walk.same("GreaterOrEqual", apart, walk.constant(np.array(bounds, np.float32), "boundaries"))
    ones = walk.same("Cast", above, to=ir.DataType.INT32.value)
    found = walk.emit("ReduceSum", [ones.value, walk.ints([x.rank], "axis")], x.order, keepdims=0)
    return _encoded(walk, found, mode, len(bounds) + 1)


def _encoded(walk: Walk, x: Held, mode: str, depth: int) -> Held:
    """Whole numbers as they are, as one-hot rows, or as which, or how many, of each the axis behind the batch holds."""
    if mode == "int":
        return x
    inputs = [x.value, walk.ints(depth, "depth"), walk.constant([0, 1], "values")]
    if x.value.dtype is not ir.DataType.INT64:  # as the depth is
        inputs[0] = walk.emit("Cast", [x.value], to=ir.DataType.INT64.value).value
    hot = walk.emit("OneHot", inputs, identity(x.rank + 1), axis=-1)
    if mode == "one_hot" and x.shape[-1] == 1:
        return walk.emit("Squeeze", [hot.value, walk.ints([x.rank - 1], "axes")], identity(x.rank))
    if mode == "one_hot":
        return hot
    reduction = "ReduceMax" if mode == "multi_hot" else "ReduceSum"
    return walk.emit(reduction, [hot.value, walk.ints([min(x.rank - 1, 1)], "axes")], identity(x.rank), keepdims=0)
