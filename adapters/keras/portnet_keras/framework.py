"""Imports Keras with its backend's chatter turned down; everything else here takes ``keras`` from this module."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from portnet.adapter import before_tensorflow

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what TensorFlow's libraries write about themselves as they load; show it if loading fails.

    They write to the process's standard error before any level of logging is heeded.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with tempfile.TemporaryFile() as written:
        sys.stderr.flush()
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(kept, written.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with _quiet():
    before_tensorflow()
    try:
        import keras
        from keras import ops
    except ValueError as error:  # KERAS_BACKEND names none that there is
        raise ImportError(str(error)) from error

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
