"""Functions that ONNX ops need beyond torch's own.

Each is a plain function of tensors and Python values that imports torch alone and calls nothing but torch and
functions of its own file, so that its source can be copied into a model that needs no PortNet.
"""
