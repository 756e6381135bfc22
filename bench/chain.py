"""Writes a network of nothing but weights: a chain of MatMul and Relu.

In a process of its own, for a process's peak memory begins with that of the process that started it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.row import Row

__all__ = ["run"]

# side of a square matrix: 4096² float32 are 67 MB
SIDE = 4096


def run(*, path: str, megabytes: int) -> list[Row]:
    """Write a network with about ``megabytes`` (10⁶ bytes) of weights; measures nothing."""
    count = max(1, round(megabytes * 1e6 / (SIDE * SIDE * 4)))
    generator = np.random.default_rng(5)
    nodes: list[Any] = []
    weights, value = [], "x"
    for index in range(count):
        matrix = generator.standard_normal((SIDE, SIDE), dtype=np.float32) / np.float32(np.sqrt(SIDE))
        weights.append(numpy_helper.from_array(matrix, f"weight{index}"))
        nodes.append(helper.make_node("MatMul", [value, f"weight{index}"], [f"product{index}"]))
        nodes.append(helper.make_node("Relu", [f"product{index}"], [value := f"relu{index}"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", SIDE]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return []
