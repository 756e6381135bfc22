"""Policies of element types: networks that Keras computes in float16 or bfloat16 are captured and proved in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from portnet_keras.framework import keras

__all__ = ["in_single_precision", "narrow_policies"]

_NARROW = ("float16", "bfloat16")


def narrow_policies(network: Any) -> list[str]:
    """Return the names of the policies by which layers compute in less than float32."""
    return sorted({layer.dtype_policy.name for layer in _narrow_layers(network)})


@contextlib.contextmanager
def in_single_precision(network: Any) -> Iterator[None]:
    """Have a network's layers compute in float32 for a while: rounding to float16 would hide a wrong network."""
    before = [(layer, layer.dtype_policy) for layer in _narrow_layers(network)]
    for layer, _ in before:
        layer.dtype_policy = "float32"
    try:
        yield
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy


def _narrow_layers(network: Any) -> list[Any]:
    layers = network._flatten_layers() if isinstance(network, keras.Layer) else []
    return [layer for layer in layers if getattr(layer, "compute_dtype", None) in _NARROW]
