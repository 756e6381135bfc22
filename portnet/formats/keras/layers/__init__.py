"""Translations of Keras's layers, one family a file; importing this fills the table."""

from portnet.formats.keras.layers import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    conv_lstm,
    convolution,
    dense,
    indexing,
    masking,
    merge,
    normalization,
    operators,
    pooling,
    preprocessing,
    recurrent,
    shape,
    variable,
)
