"""onnxruntime's weights of 2, 4 and 8 bits, quantized block by block, as plain numbers.

Source: MatMulNBits and GatherBlockQuantized in onnxruntime's docs/ContribOperators.md. The numbers never train: what is
trained is no longer of so few bits.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.model import Model
from portnet.graph.passes.rewrite import Site, constant_array, every_node, input_at, python_attribute, rank

__all__ = ["gather_block_quantized", "in_full", "matmul_nbits"]

# accuracy_level of MatMulNBits at which onnxruntime rounds the other factor to 8 bits
_INT8 = 4


def in_full(model: Model) -> Model:
    """Return the network with products that round nothing but the weights that its file has rounded."""
    if not any(map(_rounds, every_node(model.ir.graph))):
        return model
    copied = model.copy()
    for node in filter(_rounds, every_node(copied.ir.graph)):
        del node.attributes["accuracy_level"]
    return copied


def _rounds(node: ir.Node) -> bool:
    return node.op_type == "MatMulNBits" and python_attribute(node, "accuracy_level", 0) == _INT8


def _unpacked(array: np.ndarray, bits: int) -> np.ndarray:
    """Return the numbers of packed bytes along the last axis, the lowest bits first."""
    if bits == 8:
        return array
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (array[..., None] >> shifts & np.uint8(2**bits - 1)).reshape(*array.shape[:-1], -1)


def matmul_nbits(site: Site, node: ir.Node) -> ir.Value | None:
    """A product with (K, N) numbers, of which each block of a column has a scale and a zero point; and a bias.

    Raises:
        ModelError: arrays of other sizes than the node says.
    """
    a, packed, scales, zeros, order, bias = (input_at(node, i) for i in range(6))
    rows, columns = python_attribute(node, "K", 0), python_attribute(node, "N", 0)
    bits, block = python_attribute(node, "bits", 4), python_attribute(node, "block_size", 0)
    quantized, scale, zero = (constant_array(value) for value in (packed, scales, zeros))
    if order is not None or bits not in (2, 4, 8) or min(rows, columns, block) < 1:
        return None
    if quantized is None or scale is None or (zeros is not None and zero is None):
        return None
    blocks = -(-rows // block)
    _expect(node, "bytes of weights", quantized.size, columns * blocks * -(-block * bits // 8))
    _expect(node, "scales", scale.size, columns * blocks)
    whole = _unpacked(quantized.reshape(columns, blocks, -1), bits)
    shift = _zero_points(node, zero, bits, columns, blocks)
    numbers = (whole.astype(np.float32) - shift) * scale.astype(np.float32).reshape(columns, blocks, 1)
    weight = np.ascontiguousarray(numbers.reshape(columns, -1)[:, :rows].T)
    result = site.op("MatMul", a, site.constant(weight.astype(scale.dtype), "weight"))
    return result if bias is None else site.op("Add", result, bias)


def _expect(node: ir.Node, what: str, got: object, expected: object) -> None:
    if got != expected:
        raise ModelError(f"node {node.name!r} ({node.op_type}): got {got} {what}, expected {expected}")


def _zero_points(node: ir.Node, zeros: np.ndarray | None, bits: int, columns: int, blocks: int) -> np.ndarray:
    """Return (N, blocks, 1) zero points: packed, plain, or the middle of the range where there are none."""
    if zeros is None:
        return np.full((columns, blocks, 1), 2 ** (bits - 1), np.float32)
    is_plain = zeros.dtype.kind == "f"
    _expect(node, "zero points", zeros.size, columns * (blocks if is_plain else -(-blocks * bits // 8)))
    plain = zeros if is_plain else _unpacked(zeros.reshape(columns, -1), bits)
    return plain.reshape(columns, -1)[:, :blocks, None].astype(np.float32)


def gather_block_quantized(site: Site, node: ir.Node) -> ir.Value | None:
    """Gather among numbers of which each block along an axis has a scale and a zero point.

    Raises:
        ModelError: scales or zero points of another shape than the node says.
    """
    data, indices, scales, zeros = (input_at(node, i) for i in range(4))
    quantized, scale, zero = (constant_array(value) for value in (data, scales, zeros))
    axes, block, bits = rank(data), python_attribute(node, "block_size", 128), python_attribute(node, "bits", 4)
    if not axes or block < 1 or quantized is None or scale is None or (zeros is not None and zero is None):
        return None
    gather, along = (python_attribute(node, name, d) % axes for name, d in (("gather_axis", 0), ("quantize_axis", 1)))
    middle = 0
    if quantized.dtype == np.uint8:
        if along != axes - 1 or bits not in (4, 8):
            return None
        quantized, middle = _unpacked(quantized, bits), 2 ** (bits - 1)
        zero = None if zero is None else _unpacked(zero, bits)[..., : scale.shape[-1]]
    blocks = [-(-size // block) if axis == along else size for axis, size in enumerate(quantized.shape)]
    _expect(node, "as the shape of its scales", list(scale.shape), blocks)
    # the block that each number is in
    places = np.arange(quantized.shape[along]) // block
    shift: np.ndarray | np.floating = np.float32(middle)
    if zero is not None:
        _expect(node, "as the shape of its zero points", list(zero.shape), blocks)
        shift = zero.astype(np.float32).take(places, axis=along)
    numbers = (quantized.astype(np.float32) - shift) * scale.astype(np.float32).take(places, axis=along)
    return site.op("Gather", site.constant(numbers.astype(scale.dtype), "table"), indices, axis=gather)
