"""Fourier transforms and spectra."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import signal
from portnet_torch.ops.registry import Walk, op


@op("DFT")
def _dft(walk: Walk, node: NodeView) -> Any:
    length = None if node.input(1) is None else walk.item(node.input(1))
    axis = -2 if node.input(2) is None else walk.item(node.input(2))
    options = bool(node["inverse"]), bool(node["onesided"])
    return walk.call(signal.dft, walk.value(node.required(0)), length, axis, *options)


@op("STFT")
def _stft(walk: Walk, node: NodeView) -> Any:
    x, step = walk.value(node.required(0)), walk.item(node.required(1))
    length = None if node.input(3) is None else walk.item(node.input(3))
    return walk.call(signal.stft, x, step, walk.optional(node.input(2)), length, bool(node["onesided"]))


@op("MelWeightMatrix")
def _mel_weight_matrix(walk: Walk, node: NodeView) -> Any:
    dtype = torch_dtype(ir.DataType(node["output_datatype"]))
    return walk.call(signal.mel_weight_matrix, *(walk.item(value) for value in node.inputs), dtype)
