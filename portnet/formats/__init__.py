"""Networks of other frameworks, read from their own files without their frameworks.

    writer.py    GraphWriter: write an ONNX graph layer by layer, shapes known as it grows
    captured.py  Captured: a network as it was found, how it was read, and what to know of it
    mxnet/       -symbol.json and .params
    caffe/       .prototxt and .caffemodel
    darknet/     .cfg and .weights
    opencv.py    an independent engine for the files of these two, where it is installed
    keras/       the configuration of a Keras network (2 and 3) and its arrays: .keras, .h5, .json

A translator turns a framework's description, as plain data, into a `portnet.Model`: one function a layer, in a table.
It lists all layers that it does not know at once, before anything is written. Files are untrusted input: nothing in
them is executed, no class is looked up by a name from a file, sizes are checked before anything is allocated. An
adapter that captures a living network of its framework hands the same plain data to the same translator.
"""
