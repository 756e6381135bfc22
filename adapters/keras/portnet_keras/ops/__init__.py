"""Builders, one small file per family of ops; `TABLE` is their union."""

from portnet_keras.ops import (
    activation,
    convolution,
    dense,
    elementwise,
    normalization,
    pooling,
    reduction,
    shape,
)
from portnet_keras.ops.registry import SPATIAL, TABLE, TRANSPARENT

__all__ = ["SPATIAL", "TABLE", "TRANSPARENT"]
