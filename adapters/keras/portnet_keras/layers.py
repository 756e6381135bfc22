"""Registers with Keras every layer and operation of PortNet's own that a saved network may hold.

>>> import keras, portnet_keras.layers  # doctest: +SKIP
>>> network = keras.saving.load_model("network.keras")  # doctest: +SKIP
"""

from __future__ import annotations

from portnet_keras.branching import Branches
from portnet_keras.operation import Weight
from portnet_keras.repeating import Repeated

__all__ = ["Branches", "Repeated", "Weight"]
