"""Mixed precision on the CPU: TensorFlow's graph optimiser has oneDNN compute in bfloat16 what is safe to.

The optimiser rewrites a compiled function when it runs under its option: convolutions and matrix products read
bfloat16, everything that is written to a variable stays float32. Other functions of the process are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

__all__ = ["computes_in", "has_bf16"]

_OPTION = "auto_mixed_precision_onednn_bfloat16"
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


@functools.cache
def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16, as far as the system tells (Linux does), and oneDNN is in use."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _INSTRUCTIONS.isdisjoint(flags.split())


@contextlib.contextmanager
def computes_in(precision: str) -> Iterator[None]:
    """Have compiled functions that are called inside the block compute in "fp32" or "bf16"."""
    if precision == "fp32":
        yield
        return
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    tf.config.optimizer.set_experimental_options({_OPTION: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})
