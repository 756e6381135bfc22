"""``auto_pad`` becomes explicit pads, and kernel sizes are written out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from portnet.graph.passes.rewrite import every_node, python_attribute, static_dims

__all__ = ["explicit_padding"]

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
_WEIGHT = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


def explicit_padding(model: ir.Model) -> None:
    """Write pads for ``auto_pad``, and ``kernel_shape`` from the weight's shape.

    Requires: inferred shapes.
    Ensures: ``auto_pad`` is left only where pads depend on sizes that are not known.
    """
    for node in every_node(model.graph):
        if node.domain == "" and (node.op_type in _CONVOLUTIONS or node.op_type in _POOLS):
            _write_kernel(node)
            _write_pads(node)


def _write_kernel(node: ir.Node) -> None:
    weight = node.inputs[_WEIGHT[node.op_type]] if node.op_type in _WEIGHT else None
    dims = static_dims(weight)
    if "kernel_shape" not in node.attributes and dims is not None and None not in dims:
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", dims[2:])  # type: ignore[arg-type]


def _write_pads(node: ir.Node) -> None:
    mode = python_attribute(node, "auto_pad", "NOTSET")
    kernel = python_attribute(node, "kernel_shape")
    if mode == "NOTSET":
        node.attributes.pop("auto_pad", None)
    if mode == "NOTSET" or kernel is None:
        return
    if mode == "VALID":
        totals: Sequence[int] | None = [0] * len(kernel)
    elif python_attribute(node, "ceil_mode", 0):
        return
    else:
        totals = _transposed_totals(node, kernel) if node.op_type == "ConvTranspose" else _totals(node, kernel)
    if totals is not None:
        small, large = [n // 2 for n in totals], [n - n // 2 for n in totals]
        pads = small + large if mode != "SAME_LOWER" else large + small
        node.attributes.pop("auto_pad")
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _totals(node: ir.Node, kernel: list[int]) -> list[int] | None:
    """Padding of each axis so that the output has ceil(size / stride) entries."""
    dims = static_dims(node.inputs[0])
    sizes = dims[2:] if dims is not None else (None,) * len(kernel)
    strides = python_attribute(node, "strides", [1] * len(kernel))
    dilations = python_attribute(node, "dilations", [1] * len(kernel))
    totals = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (k - 1) * dilation + 1
        if stride == 1:
            totals.append(reach - 1)
        elif size is None:
            return None
        else:
            totals.append(max((-(-size // stride) - 1) * stride + reach - size, 0))
    return totals


def _transposed_totals(node: ir.Node, kernel: list[int]) -> list[int] | None:
    """Padding of each axis so that the output has size · stride entries; it does not depend on the size."""
    if "output_shape" in node.attributes:
        return None
    strides = python_attribute(node, "strides", [1] * len(kernel))
    dilations = python_attribute(node, "dilations", [1] * len(kernel))
    extra = python_attribute(node, "output_padding", [0] * len(kernel))
    totals = [(k - 1) * d + 1 - s + e for k, d, s, e in zip(kernel, dilations, strides, extra, strict=True)]
    return totals if min(totals) >= 0 else None
