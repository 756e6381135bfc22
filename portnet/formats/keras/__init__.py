"""Keras networks, of Keras 2 and Keras 3, from their configuration as plain data and their arrays, without Keras.

config.py       the configuration: networks within networks, Keras 2's and Keras 3's spelling → one structure
options.py      one layer's configuration, read with types and bounds
held.py         tensors and the order that Keras's axes lie in
supply.py       arrays by layer: of a living network, of files, or made
order.py        which call of a layer comes after which
walk.py         the walk over the layers
layers/         builders, one family of layers a file, in a table
translate.py    configuration and arrays → Model
files.py        .keras, .h5, .json → Model
"""

from portnet.formats.keras import layers as _layers  # fills the table
from portnet.formats.keras.files import is_keras, read, read_translation
from portnet.formats.keras.node import Place
from portnet.formats.keras.supply import ByLayer
from portnet.formats.keras.translate import Translation, is_translated, translate

__all__ = ["ByLayer", "Place", "Translation", "is_keras", "is_translated", "read", "read_translation", "translate"]

del _layers
