"""Builders, one file a family of ops. Importing this package fills `TABLE`."""

from portnet_gluon.ops import (
    activation,
    control,
    convolution,
    elementwise,
    fourier,
    index,
    linear,
    normalization,
    padding,
    pooling,
    quantize,
    recurrent,
    reduction,
    reshape,
    resize,
    sampling,
    shape,
)
from portnet_gluon.ops.registry import TABLE

__all__ = [
    "TABLE",
    "activation",
    "control",
    "convolution",
    "elementwise",
    "fourier",
    "index",
    "linear",
    "normalization",
    "padding",
    "pooling",
    "quantize",
    "recurrent",
    "reduction",
    "reshape",
    "resize",
    "sampling",
    "shape",
]
