"""Builders, one small file per family of ops; `TABLE` is their union."""

import importlib

from portnet_keras.ops.registry import SPATIAL, TABLE, TRANSPARENT

__all__ = ["SPATIAL", "TABLE", "TRANSPARENT"]

FAMILIES = (
    "activation",
    "arithmetic",
    "casting",
    "classical",
    "control",
    "convolution",
    "dense",
    "elementwise",
    "indexing",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduction",
    "resize",
    "sampling",
    "sequence",
    "shape",
    "signal",
    "slicing",
    "training",
)

for _family in FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")
