"""Dense layers, embeddings, and einsum's dense layer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.activation import activated
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__: list[str] = []


@layer("Dense")
def dense(walk: Walk, node: LayerNode) -> Held:
    """Kernel (in, units) on the last axis, wherever that lies; a flattened map's order goes into the kernel's rows."""
    x, units = node.input, node.options.integer("units")
    node.options.refuse("quantization_config")
    node.options.refuse("lora_rank")
    if node.shared:
        x = walk.plain(x)
    width = x.size(-1, f"layer {node.name!r}")
    bias = Slot("bias", (units,), index=1) if node.options.flag("use_bias", True) else None
    arrays = walk.weights(node, Slot("kernel", (width, units), "random"), bias)
    return activated(walk, node, _product(walk, node, x, arrays))


def _product(walk: Walk, node: LayerNode, x: Held, arrays: dict[str, np.ndarray]) -> Held:
    kernel = arrays["kernel"]
    if 3 <= x.rank <= 5 and x.order[1] == x.rank - 1:
        # channels first: a dense layer of the channels is a convolution of one place
        window = [1] * (x.rank - 2)
        weight = walk.parameter(node, "kernel", kernel.T.reshape(*kernel.shape[::-1], *window))
        return walk.emit("Conv", [x.value, weight, *_bias(walk, node, arrays)], x.order, "conv", kernel_shape=window)
    if x.packing is not None:
        kernel = kernel[x.packing.permutation]
    elif x.order[-1] != x.rank - 1:
        x = walk.plain(x)
    weight = walk.parameter(node, "kernel", kernel)
    if x.rank == 2:
        return walk.emit("Gemm", [x.value, weight, *_bias(walk, node, arrays)], identity(2))
    product = walk.emit("MatMul", [x.value, weight], x.order)
    for bias in _bias(walk, node, arrays):
        product = walk.same("Add", product, bias)
    return product


def _bias(walk: Walk, node: LayerNode, arrays: dict[str, np.ndarray]) -> list[ir.Value]:
    return [walk.parameter(node, "bias", arrays["bias"])] if "bias" in arrays else []


@layer("Embedding")
def embedding(walk: Walk, node: LayerNode) -> Held:
    """Rows of a table (input_dim, output_dim) by whole numbers, which Keras lets come as floats."""
    shape = (node.options.integer("input_dim"), node.options.integer("output_dim"))
    table = walk.weights(node, Slot("embeddings", shape, "random"))["embeddings"]
    x = walk.plain(node.input)
    indices = x.value
    if x.value.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        indices = walk.emit("Cast", [x.value], to=ir.DataType.INT64.value).value
    rows = walk.emit("Gather", [walk.parameter(node, "embeddings", table), indices], identity(x.rank + 1), axis=0)
    if node.options.flag("mask_zero"):
        zero = walk.constant(0, "zero", x.value.dtype.numpy() if x.value.dtype is not None else np.float32)
        walk.masks[rows.value] = lambda: walk.same("Not", walk.same("Equal", x, zero))
    return rows


@layer("EinsumDense")
def einsum_dense(walk: Walk, node: LayerNode) -> Held:
    """``equation`` of the input and a kernel, and a bias on some of the result's axes."""
    x = walk.plain(node.input)
    equation = node.options.get("equation", "")
    terms, _, result = equation.replace(" ", "").partition("->")
    read, _, weight = terms.partition(",")
    if not result or not weight or set(equation) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,-> ."):
        raise node.options.wrong("equation", "one such as 'ab,bc->ac'")
    if "..." in equation:
        free = x.rank - len(read.replace("...", ""))
        letters = "".join(letter for letter in "zyxwvutsrq" if letter not in equation)[: max(free, 0)]
        read, result = read.replace("...", letters), result.replace("...", letters)
    given = node.options.get("output_shape")
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(read) != x.rank or len(given) != len(result) - 1:
        raise UnsupportedError(f"equation {equation!r} with output_shape {given}")
    sizes = {letter: size for letter, size in zip(read, x.shape, strict=True) if size is not None}
    known = zip(result[1:], given, strict=True)
    sizes.update({letter: size for letter, size in known if isinstance(size, int) and size > 0})
    if any(letter not in sizes for letter in weight):
        raise UnsupportedError(f"equation {equation!r} over free sizes")
    axes = node.options.get("bias_axes")
    bias = None
    if axes is not None:
        first = min(result.index(letter) for letter in axes)
        bias = Slot("bias", tuple(sizes[c] if c in axes else 1 for c in result[first:]), index=1)
    arrays = walk.weights(node, Slot("kernel", tuple(sizes[letter] for letter in weight), "random"), bias)
    kernel = walk.parameter(node, "kernel", arrays["kernel"])
    product = walk.emit("Einsum", [x.value, kernel], identity(len(result)), equation=f"{read},{weight}->{result}")
    for array in _bias(walk, node, arrays):
        product = walk.same("Add", product, array)
    return activated(walk, node, product)
