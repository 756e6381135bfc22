"""Caffe's layers, one family a file."""

from portnet.formats.caffe.layers import (  # noqa: F401 - each fills the table
    activation,
    arithmetic,
    convolution,
    dense,
    detection,
    normalization,
    pooling,
    recurrent,
    resize,
    selection,
    shape,
)
from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import TABLE, NotExpressible

__all__ = ["TABLE", "Layer", "NotExpressible"]
