"""MXNet's pair of files, ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, as a `Model`, without MXNet.

symbol.py      the graph in a symbol's JSON, of MXNet 0.5 to 1.9, with its indices checked
attributes.py  what MXNet writes as text: "(3, 3)", "True", "1e-05"
layer.py       what a builder sees of a layer: attributes, inputs, parameters, and how to write nodes
translate.py   the walk from the inputs to the heads
files.py       read: the two files of a network
ops/           one builder an operator, in a table
"""

from portnet.formats.mxnet.files import params_beside, read, read_symbol, read_translation
from portnet.formats.mxnet.symbol import ATTRIBUTE, Symbol, parse_symbol
from portnet.formats.mxnet.translate import Translation, translate

__all__ = [
    "ATTRIBUTE",
    "Symbol",
    "Translation",
    "params_beside",
    "parse_symbol",
    "read",
    "read_symbol",
    "read_translation",
    "translate",
]
