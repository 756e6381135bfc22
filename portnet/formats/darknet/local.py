"""A convolution whose kernel is another at each place (local_layer.c)."""

from __future__ import annotations

import math

import onnx_ir as ir

from portnet.formats.darknet.layer import Layer, NotExpressible

__all__ = ["local"]

MAX_SIZE = 11


def local(layer: Layer) -> ir.Value:
    """A product of matrices a place, and an activation.

    In the file: biases (filters, height, width), then kernels (height · width, filters, channels · size · size).
    """
    channels, *spatial = layer.image()
    filters, size, stride = layer.positive("filters", 1), layer.positive("size", 1), layer.positive("stride", 1)
    padding = int(layer.section.integer("pad", 0) != 0)
    counts = [(n - (1 if padding else size)) // stride + 1 for n in spatial]
    if size > MAX_SIZE or counts != [(n + 2 * padding - size) // stride + 1 for n in spatial] or min(counts) < 1:
        raise NotExpressible(f"of {spatial} pixels by kernels of {size}, stride {stride}, pad {padding}")
    name, places, depth = layer.label("local"), math.prod(counts), channels * size * size
    bias = layer.arrays.take(f"{name}.bias", (filters, *counts))
    kernels = layer.arrays.take(f"{name}.weight", (places, filters, depth), math.sqrt(2 / 3 / depth))
    columns = _columns(layer, size, stride, padding, [depth, places], name)
    product = layer.graph.node("MatMul", [layer.graph.weight(f"{name}.weight", kernels), columns], f"{name}/product")
    # (places, filters, N) to (N, filters, height, width)
    moved = layer.graph.node("Transpose", [product], f"{name}/moved", perm=[2, 1, 0])
    shaped = layer.graph.node(
        "Reshape", [moved, layer.graph.ints([-1, filters, *counts], f"{name}/shape")], f"{name}/image"
    )
    return layer.activated(layer.graph.node("Add", [shaped, layer.graph.weight(f"{name}.bias", bias)], name))


def _columns(layer: Layer, size: int, stride: int, padding: int, shape: list[int], name: str) -> ir.Value:
    """Return what each place sees, (places, channels · size · size, N), in the order of im2col.c."""
    _, *spatial = layer.image()
    counts = [(n + 2 * padding - size) // stride + 1 for n in spatial]
    x = layer.x
    if padding:
        pads = layer.graph.ints([padding] * 4, f"{name}/pads")
        axes = layer.graph.ints([2, 3], f"{name}/padded_axes")
        x = layer.graph.node("Pad", [x, pads, layer.number(0, f"{name}/zero"), axes], f"{name}/pad")
    steps, axes = layer.graph.ints([stride] * 2, f"{name}/steps"), layer.graph.ints([2, 3], f"{name}/axes")
    behind = layer.graph.ints([2], f"{name}/behind")
    seen = []
    for row in range(size):
        for column in range(size):
            start, what = [row, column], f"{name}/{row}.{column}"
            end = [s + (count - 1) * stride + 1 for s, count in zip(start, counts, strict=True)]
            bounds = [layer.graph.ints(start, f"{what}.starts"), layer.graph.ints(end, f"{what}.ends")]
            part = layer.graph.node("Slice", [x, *bounds, axes, steps], what)
            seen.append(layer.graph.node("Unsqueeze", [part, behind], f"{what}.row"))
    stacked = seen[0] if len(seen) == 1 else layer.graph.node("Concat", seen, f"{name}/stacked", axis=2)
    flat = layer.graph.ints([-1, *shape], f"{name}/columns.shape")
    return layer.graph.node(
        "Transpose",
        [layer.graph.node("Reshape", [stacked, flat], f"{name}/columns")],
        f"{name}/seen",
        perm=[2, 1, 0],
    )
