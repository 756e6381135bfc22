"""Caffe: .prototxt and .caffemodel, read without Caffe.

read.py     read(prototxt, caffemodel) → Captured: the walk over the layers
text.py     protobuf's text format
weights.py  arrays, out of protobuf's wire format or HDF5
net.py      which layers run in inference, and what each reads
inputs.py   sizes and preprocessing, from the layers that read data
mean.py     a mean image beside the prototxt
arrays.py   a layer's arrays, checked or drawn
layers/     one function a layer, in a table
"""

from portnet.formats.caffe.read import read

__all__ = ["read"]
