"""BatchNorm with and without its Scale, LRN, MVN, Normalize."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe


@caffe("BatchNorm")
def batch_norm(layer: Layer) -> ir.Value:
    """BatchNormalization, with scale and shift of the Scale layer that follows, or else 1 and 0.

    Caffe stores sums of statistics and, as its third array, what to divide them by; where that is 0, the statistics
    are 0. One step keeps ``moving_average_fraction`` of a statistic, which is ONNX's momentum.
    """
    options = layer.options("batch_norm_param")
    if not options.flag("use_global_stats", True):
        layer.notes.append(
            f"BatchNorm {layer.name!r} says use_global_stats: false; in inference it uses its running statistics."
        )
    channels = layer.size(1)
    layer.check_sizes((channels,), "statistics")
    inputs = [layer.x, *_affine(layer, channels)]
    for what, array in zip(("running_mean", "running_var"), _statistics(layer, channels), strict=True):
        inputs.append(layer.graph.weight(f"{layer.name}.{what}", array))
    name = layer.scale.name if layer.scale else layer.name
    return layer.graph.node(
        "BatchNormalization",
        inputs,
        name,
        epsilon=options.number("eps", 1e-5),
        momentum=options.number("moving_average_fraction", 0.999),
    )


def _affine(layer: Layer, channels: int) -> list[ir.Value]:
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if layer.scale is None:
        return [layer.graph.constant(one, f"{layer.name}/one"), layer.graph.constant(zero, f"{layer.name}/zero")]
    scale = layer.scale
    options = scale.options("scale_param")
    gamma = scale.weight("weight", 0, (channels,), filler=options.message("filler"), constant=1)
    if not options.flag("bias_term", False):
        return [gamma, layer.graph.constant(zero, f"{scale.name}/zero")]
    return [gamma, scale.weight("bias", 1, (channels,), filler=options.message("bias_filler"))]


def _statistics(layer: Layer, channels: int) -> list[np.ndarray]:
    if layer.arrays.is_drawn:
        return [np.zeros(channels, np.float32), np.ones(channels, np.float32)]
    nothing = layer.options("batch_norm_param").message("filler")
    mean, variance = (layer.arrays.get(layer.name, index, (channels,), nothing) for index in (0, 1))
    divisor = float(layer.arrays.get(layer.name, 2, (1,), nothing)[0])
    if divisor == 1:
        return [mean, variance]
    factor = np.float32(1 / divisor if divisor else 0)
    return [mean * factor, variance * factor]


@caffe("BN")
def bn(layer: Layer) -> ir.Value:
    """BN of forks: scale, shift, mean and variance in one layer (PSPNet's), or scale and shift alone (SegNet's).

    SegNet's files to test with hold scale and shift that the statistics were taken into.
    """
    options = layer.options("bn_param")
    channels = layer.size(1)
    layer.check_sizes((channels,), "statistics")
    options.word("bn_mode", "LEARN", ("LEARN", "INFERENCE"))
    options.flag("frozen", False)
    names = ("slope_filler", "bias_filler") if "slope_filler" in options else ("scale_filler", "shift_filler")
    to = (channels,) if layer.arrays.count(layer.name) != 2 else (channels, *[1] * (len(layer.sizes) - 2))
    pair = [
        layer.weight(what, index, (channels,), to=to, filler=options.message(name), constant=1 - index)
        for index, (what, name) in enumerate(zip(("weight", "bias"), names, strict=True))
    ]
    if layer.arrays.count(layer.name) == 2:
        return layer.node("Add", [layer.node("Mul", [layer.x, pair[0]], "product"), pair[1]])
    statistics = [np.zeros(channels, np.float32), np.ones(channels, np.float32)]
    if not layer.arrays.is_drawn:
        statistics = [layer.arrays.get(layer.name, index, (channels,), options.message("filler")) for index in (2, 3)]
    for what, array in zip(("running_mean", "running_var"), statistics, strict=True):
        pair.append(layer.graph.weight(f"{layer.name}.{what}", array))
    epsilon, momentum = options.number("eps", 1e-5), options.number("momentum", 0.9)
    return layer.node("BatchNormalization", [layer.x, *pair], epsilon=epsilon, momentum=momentum)


@caffe("LRN")
def local_response(layer: Layer) -> ir.Value:
    """x / (k + alpha / n · Σ x²) ^ beta over n channels, or over n × n pixels of one channel with k = 1."""
    options = layer.options("lrn_param")
    size, alpha = options.integer("local_size", 5), options.number("alpha", 1)
    beta, bias = options.number("beta", 0.75), options.number("k", 1)
    region = options.word("norm_region", "ACROSS_CHANNELS", ("ACROSS_CHANNELS", "WITHIN_CHANNEL"))
    if not 0 < size < 1 << 16 or size % 2 == 0 or len(layer.sizes) != 4:
        raise NotExpressible(f"over {size} of {len(layer.sizes) - 2} axes")
    if region == "ACROSS_CHANNELS":
        return layer.node("LRN", [layer.x], size=size, alpha=alpha, beta=beta, bias=bias)
    square = layer.node("Mul", [layer.x, layer.x], "square")
    window = {"kernel_shape": [size, size], "pads": [size // 2] * 4, "count_include_pad": 1}
    mean = layer.node("AveragePool", [square], "mean", **window)
    scaled = layer.node("Mul", [mean, layer.number(alpha, "alpha")], "scaled")
    base = layer.node("Add", [scaled, layer.number(1, "one")], "base")
    return layer.node("Mul", [layer.x, layer.node("Pow", [base, layer.number(-beta, "exponent")], "factor")])


@caffe("MVN")
def mean_variance(layer: Layer) -> ir.Value:
    """(x − mean) / (deviation + eps) over the pixels of each channel, or of all channels."""
    options = layer.options("mvn_param")
    first = 1 if options.flag("across_channels", False) else 2
    epsilon, is_scaled = options.number("eps", 1e-9), options.flag("normalize_variance", True)
    axes = layer.ints(range(first, len(layer.sizes)), "axes")
    mean = layer.node("ReduceMean", [layer.x, axes], "mean")
    if not is_scaled:
        return layer.node("Sub", [layer.x, mean])
    centred = layer.node("Sub", [layer.x, mean], "centred")
    variance = layer.node("ReduceMean", [layer.node("Mul", [centred, centred], "square"), axes], "variance")
    deviation = layer.node("Sqrt", [variance], "deviation")
    return layer.node("Div", [centred, layer.node("Add", [deviation, layer.number(epsilon, "eps")], "divisor")])


@caffe("Normalize")
def normalize(layer: Layer) -> ir.Value:
    """x / √(Σ x² + eps) over the channels of each pixel, or of all pixels, times a learned scale (SSD's layer)."""
    options = layer.options("norm_param")
    channels, epsilon = layer.size(1), options.number("eps", 1e-10)
    last = len(layer.sizes) if options.flag("across_spatial", True) else 2
    is_shared = options.flag("channel_shared", True)
    total = layer.node("ReduceSumSquare", [layer.x, layer.ints(range(1, last), "axes")], "total")
    length = layer.node("Sqrt", [layer.node("Add", [total, layer.number(epsilon, "eps")], "stabilised")], "length")
    unit = layer.node("Div", [layer.x, length], "unit")
    to = (1 if is_shared else channels, *[1] * (len(layer.sizes) - 2))
    scale = layer.weight("weight", 0, () if is_shared else (channels,), to=to, filler=options.message("scale_filler"))
    return layer.node("Mul", [unit, scale])
