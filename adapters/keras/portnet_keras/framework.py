"""Imports Keras with its backend's chatter turned down; everything else here takes ``keras`` from this module."""

from __future__ import annotations

import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from keras import ops

__all__ = ["BACKEND", "devices", "keras", "ops", "share_gpu_memory"]

BACKEND: str = keras.backend.backend()


def share_gpu_memory() -> None:
    """Ask TensorFlow to take GPU memory as it needs it, unless it is already in use."""
    if BACKEND != "tensorflow":
        return
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        # raised once the GPU is initialised: whoever did that has decided
        with contextlib.suppress(RuntimeError, ValueError):
            tf.config.experimental.set_memory_growth(gpu, True)


def devices() -> list[str]:
    """Return devices that work here, best first."""
    if BACKEND != "tensorflow":
        return ["cpu"]
    import tensorflow as tf

    share_gpu_memory()
    return [*(f"cuda:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))), "cpu"]
