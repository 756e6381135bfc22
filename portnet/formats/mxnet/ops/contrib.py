"""Operators that MXNet keeps under contrib."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, op


@op("_contrib_AdaptiveAvgPooling2D")
def adaptive_average(layer: Layer) -> ir.Value:
    """Window i of n over a size s is ⌊i·s/n⌋ to ⌈(i+1)·s/n⌉; where they differ in length, a product of matrices."""
    x, given = layer.value(0), layer.attributes.integers("output_size", least=1) or (1, 1)
    wanted = given * 2 if len(given) == 1 else given
    if len(wanted) != 2 or max(wanted) > 1 << 12:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): output_size got {given}")
    if wanted == (1, 1):
        return layer.final("GlobalAveragePool", [x])
    sizes = [layer.size(x, 2), layer.size(x, 3)]
    if all(size % n == 0 for size, n in zip(sizes, wanted, strict=True)):
        window = [size // n for size, n in zip(sizes, wanted, strict=True)]
        return layer.final("AveragePool", [x], kernel_shape=window, strides=window)
    rows, columns = (_means(size, n) for size, n in zip(sizes, wanted, strict=True))
    left = layer.writer.constant(rows, f"{layer.name}/rows")
    right = layer.writer.constant(np.ascontiguousarray(columns.T), f"{layer.name}/columns")
    return layer.final("MatMul", [layer.step("MatMul", [left, x], "product"), right])


def _means(size: int, count: int) -> np.ndarray:
    """Return the matrix (count, size) whose rows average windows."""
    if size > 1 << 12:
        raise ModelError(f"adaptive pooling: got a size of {size}, expected at most {1 << 12}")
    matrix = np.zeros((count, size), np.float32)
    for row in range(count):
        first, last = row * size // count, -(-(row + 1) * size // count)
        matrix[row, first:last] = 1 / (last - first)
    return matrix


@op("_contrib_div_sqrt_dim")
def div_sqrt_dim(layer: Layer) -> ir.Value:
    """x / √(size of the last axis)."""
    x = layer.value(0)
    size = layer.size(x, layer.rank(x) - 1)
    return layer.final("Div", [x, layer.scalar(size**0.5, x)])
