"""Darknet: .cfg and .weights, read without Darknet.

read.py       read(cfg, weights) → Captured: the walk over the sections
config.py     a .cfg as sections of options
arrays.py     a .weights file, taken array by array, or arrays drawn
layer.py      what a builder sees of its section
layers.py     convolutions, dense layers, pools
wiring.py     what joins, cuts, scales and rearranges
local.py      a convolution with kernels of its own for each place
recurrent.py  gru and lstm
table.py      one function a section, by its name
names.py      what OpenCV calls the same layers
"""

from portnet.formats.darknet.read import read

__all__ = ["read"]
