"""A bias of zeros that an exporter computed is no bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.graph.parameters import CONSTANT_MARK
from portnet.graph.passes.rewrite import constant_array, every_node

__all__ = ["remove_zero_biases"]

_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def remove_zero_biases(model: ir.Model) -> None:
    """Remove biases that are zero and constant (torch's exporter adds one to every bias-free Conv).

    A zero bias among the file's initializers is a parameter, freshly initialized, and stays.

    Requires: constants folded and marked.
    Ensures: no Conv, ConvTranspose or Gemm has a constant bias of zeros.
    """
    for node in every_node(model.graph):
        index = _BIAS.get(node.op_type)
        if index is None or node.domain != "" or len(node.inputs) <= index:
            continue
        value = node.inputs[index]
        if value is None or CONSTANT_MARK not in value.metadata_props:
            continue
        array = constant_array(value)
        if array is not None and not np.any(array):
            node.resize_inputs(index)
