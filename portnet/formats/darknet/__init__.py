"""Darknet: .cfg and .weights, read without Darknet.

read.py    read(cfg, weights) → Captured: the walk over the sections
config.py  a .cfg as sections of options
arrays.py  a .weights file, taken array by array, or arrays drawn
layers.py  one function a section, in a table
names.py   what OpenCV calls the same layers
"""

from portnet.formats.darknet.read import read

__all__ = ["read"]
