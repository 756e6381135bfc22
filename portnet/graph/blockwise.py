"""onnxruntime's weights of 2, 4 and 8 bits, quantized block by block, as plain numbers.

Source: MatMulNBits and GatherBlockQuantized in onnxruntime's docs/ContribOperators.md. The numbers never train: what is
trained is no longer of so few bits.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.graph.model import Model
from portnet.graph.passes.rewrite import Site, constant_array, python_attribute, rank

__all__ = ["gather_block_quantized", "in_full", "matmul_nbits"]


# accuracy_level of MatMulNBits at which onnxruntime rounds the other factor to 8 bits
_INT8 = 4


def in_full(model: Model) -> Model:
    """Return the network with products that round nothing but the weights that its file has rounded."""
    if not any(map(_rounds, model.ir.graph)):
        return model
    copied = model.copy()
    for node in filter(_rounds, copied.ir.graph):
        del node.attributes["accuracy_level"]
    return copied


def _rounds(node: ir.Node) -> bool:
    return node.op_type == "MatMulNBits" and python_attribute(node, "accuracy_level", 0) == _INT8


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _unpacked(array: np.ndarray, bits: int) -> np.ndarray:
    """Return the numbers of packed bytes along the last axis, the lowest bits first."""
    if bits == 8:
        return array
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (array[..., None] >> shifts & np.uint8(2**bits - 1)).reshape(*array.shape[:-1], -1)


def matmul_nbits(site: Site, node: ir.Node) -> ir.Value | None:
    """A product with (K, N) numbers, of which each block of a column has a scale and a zero point; and a bias."""
    a, packed, scales, zeros, order, bias = (_input(node, i) for i in range(6))
    rows, columns = python_attribute(node, "K", 0), python_attribute(node, "N", 0)
    bits, block = python_attribute(node, "bits", 4), python_attribute(node, "block_size", 0)
    arrays = [constant_array(value) for value in (packed, scales)]
    if order is not None or bits not in (2, 4, 8) or block < 1 or any(array is None for array in arrays):
        return None
    if zeros is not None and constant_array(zeros) is None:
        return None
    quantized, scale = arrays
    blocks = -(-rows // block)
    whole = _unpacked(np.asarray(quantized).reshape(columns, blocks, -1), bits)
    zero = _zero_points(constant_array(zeros), bits, columns, blocks)
    numbers = (whole.astype(np.float32) - zero) * np.asarray(scale, np.float32).reshape(columns, blocks, 1)
    weight = np.ascontiguousarray(numbers.reshape(columns, -1)[:, :rows].T)
    result = site.op("MatMul", a, site.constant(weight.astype(np.asarray(scale).dtype), "weight"))
    return result if bias is None else site.op("Add", result, bias)


def _zero_points(zeros: np.ndarray | None, bits: int, columns: int, blocks: int) -> np.ndarray:
    """Return (N, blocks, 1) zero points: packed, plain, or the middle of the range where there are none."""
    if zeros is None:
        return np.full((columns, blocks, 1), 2 ** (bits - 1), np.float32)
    plain = zeros if zeros.dtype.kind == "f" else _unpacked(zeros.reshape(columns, -1), bits)
    return plain.reshape(columns, -1)[:, :blocks, None].astype(np.float32)


def gather_block_quantized(site: Site, node: ir.Node) -> ir.Value | None:
    """Gather among numbers of which each block along an axis has a scale and a zero point."""
    data, indices, scales, zeros = (_input(node, i) for i in range(4))
    arrays = [constant_array(value) for value in (data, scales)]
    axes = rank(data)
    if axes is None or any(array is None for array in arrays) or (zeros is not None and constant_array(zeros) is None):
        return None
    gather, along = (python_attribute(node, name, d) % axes for name, d in (("gather_axis", 0), ("quantize_axis", 1)))
    block, bits = python_attribute(node, "block_size", 128), python_attribute(node, "bits", 4)
    quantized, scale = (np.asarray(array) for array in arrays)
    zero: np.ndarray | np.floating | None = constant_array(zeros)
    if quantized.dtype == np.uint8:
        if along != axes - 1 or bits not in (4, 8):
            return None
        quantized = _unpacked(quantized, bits)
        zero = (
            np.float32(2 ** (bits - 1)) if zero is None else _unpacked(np.asarray(zero), bits)[..., : scale.shape[-1]]
        )
    spread = lambda array: np.repeat(array, block, axis=along).take(range(quantized.shape[along]), axis=along)  # noqa: E731
    shift = np.float32(0) if zero is None else zero if np.ndim(zero) == 0 else spread(np.asarray(zero, np.float32))
    numbers = (quantized.astype(np.float32) - shift) * spread(scale.astype(np.float32))
    return site.op("Gather", site.constant(numbers.astype(scale.dtype), "table"), indices, axis=gather)
