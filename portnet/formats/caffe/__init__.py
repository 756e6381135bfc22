"""Caffe: .prototxt and .caffemodel, read without Caffe.

read.py     read(prototxt, caffemodel) → Captured: the walk over the layers
text.py     protobuf's text format
weights.py  protobuf's wire format, as far as arrays go
net.py      which layers run in inference, and what each reads
inputs.py   sizes and preprocessing, from the layers that read data
arrays.py   a layer's arrays, checked or drawn
layers/     one function a layer, in a table
"""

from portnet.formats.caffe.read import read

__all__ = ["read"]
