"""Fourier transforms and spectra."""

from __future__ import annotations

import onnx_ir as ir

from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import signal
from portnet_torch.ops.registry import op


@op("DFT")
def _dft(walk, node):
    length = None if node.input(1) is None else walk.item(node.input(1))
    axis = -2 if node.input(2) is None else walk.item(node.input(2))
    options = bool(node["inverse"]), bool(node["onesided"])
    return walk.call(signal.dft, walk.value(node.required(0)), length, axis, *options)


@op("STFT")
def _stft(walk, node):
    x, step = walk.value(node.required(0)), walk.item(node.required(1))
    length = None if node.input(3) is None else walk.item(node.input(3))
    return walk.call(signal.stft, x, step, walk.optional(node.input(2)), length, bool(node["onesided"]))


@op("MelWeightMatrix")
def _mel_weight_matrix(walk, node):
    dtype = torch_dtype(ir.DataType(node["output_datatype"]))
    return walk.call(signal.mel_weight_matrix, *(walk.item(value) for value in node.inputs), dtype)
