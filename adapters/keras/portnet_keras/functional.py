"""The functional model that a walk ends in."""

from __future__ import annotations

from typing import Any

from portnet.errors import UnsupportedError
from portnet_keras.framework import keras

__all__ = ["functional"]


def functional(inputs: Any, outputs: list[Any], name: str) -> Any:
    """Return a ``keras.Model`` from symbolic inputs to symbolic outputs.

    Raises:
        UnsupportedError: an input reaches no output, or an output no input, and this release of Keras (3.12, the last
            for Python 3.10) makes no model of that.
    """
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        if "not connected to `outputs`" not in str(error):
            raise
        raise UnsupportedError(
            f"keras: network {name!r}: Keras {keras.__version__} makes no model of inputs and outputs that do not "
            "depend on each other; later releases do, on Python 3.11 and up"
        ) from error
