"""What a network costs, layer by layer: output shapes, parameters, multiply-accumulates.

Counted is what convolutions, matrix products and recurrences multiply and add, one MAC each, for one image (one item
of the batch). Normalisation, activations, pooling and elementwise arithmetic count nothing, as in the tables of
torchvision and of most papers, which call a MAC a FLOP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from portnet.graph.layers import Layer
from portnet.graph.passes.shapes import infer_shapes

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["Summary", "SummaryRow", "summarize"]

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class SummaryRow:
    """One layer of a network.

    Attributes:
        layer: number, name, op, stage and initializers.
        shape: its first output's sizes; "N" is the batch, "4N" four times the batch, "?" unknown. None: unknown rank.
        macs: multiply-accumulates of one item; None where shapes are not known.
    """

    layer: Layer
    shape: tuple[int | str, ...] | None
    macs: int | None


@dataclass(frozen=True)
class Summary:
    """A network as a table.

    Attributes:
        name: of the network.
        rows: one a layer, the input first.
    """

    name: str
    rows: tuple[SummaryRow, ...]

    @property
    def parameters(self) -> int:
        """Count of trainable scalars."""
        return sum(row.layer.parameters for row in self.rows)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one item, or None when a layer's are not known."""
        counts = [row.macs for row in self.rows]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def unknown(self) -> list[str]:
        """Names of the layers whose cost is not known."""
        return [row.layer.name for row in self.rows if row.macs is None]


def summarize(model: Model) -> Summary:
    """Return the summary of a network.

    The batch is found by inferring shapes twice, for one item and for two: a size that doubles is the batch. Free
    heights and widths take the size of the network's preprocessing, where it has one.
    """
    one, two = _nodes(model, 1), _nodes(model, 2)
    graph_input = model.inputs[0].shape if model.inputs else None
    layers = model.layers
    rows = [SummaryRow(layers[0], _input_shape(graph_input), 0)]
    for layer, node, double in zip(layers[1:], one, two, strict=True):
        shapes = [_sizes(each.outputs[0]) if each.outputs else None for each in (node, double)]
        rows.append(SummaryRow(layer, _shown(*shapes), _macs(node)))
    return Summary(model.name, tuple(rows))


def _nodes(model: Model, batch: int) -> list[ir.Node]:
    """Return the nodes of a copy whose shapes are inferred for a batch of that size."""
    copy = model.copy()
    for value in copy.ir.graph.inputs:
        if value.shape is not None and value.name not in copy.ir.graph.initializers:
            value.shape = ir.Shape(_bound(value.shape, batch, model))
    infer_shapes(copy.ir)
    return list(copy.ir.graph)


def _bound(shape: ir.Shape, batch: int, model: Model) -> list[Any]:
    size = model.preprocessing.size if model.preprocessing and len(shape) == 4 else (None, None)
    free = dict(enumerate((batch, None, *size)))
    return [dim if isinstance(dim, int) or free.get(axis) is None else free[axis] for axis, dim in enumerate(shape)]


def _sizes(value: ir.Value | None) -> Shape | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def _input_shape(shape: tuple[int | str | None, ...] | None) -> tuple[int | str, ...] | None:
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else ("N" if axis == 0 else "?") for axis, dim in enumerate(shape))


def _shown(one: Shape | None, two: Shape | None) -> tuple[int | str, ...] | None:
    if one is None or two is None or len(one) != len(two):
        return None
    return tuple(_shown_size(a, b) for a, b in zip(one, two, strict=True))


def _shown_size(one: int | None, two: int | None) -> int | str:
    if one is None or two is None:
        return "?"
    if one == two:
        return one
    if two == 2 * one:
        return "N" if one == 1 else f"{one}N"
    return "?"


# ---- multiply-accumulates


def _macs(node: ir.Node) -> int | None:
    if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
        return None
    if node.domain not in ("", "ai.onnx"):
        return None
    rule = _RULES.get(node.op_type)
    if rule is None:
        return 0
    inputs = [_sizes(value) for value in node.inputs]
    output = _sizes(node.outputs[0])
    if output is None or None in output or any(shape is not None and None in shape for shape in inputs):
        return None
    try:
        return rule(node, inputs, output)
    except (IndexError, TypeError, ValueError):  # an input's shape is unknown, or has another rank than its op demands
        return None


def _convolution(weight: int) -> Callable[..., int]:
    """Every output element is a sum over one group's channels and the kernel's window."""
    return lambda node, inputs, output: math.prod(output) * math.prod(inputs[weight][1:])


def _transposed(node: ir.Node, inputs: Any, output: Any) -> int:
    """Every input element is spread over one group's output channels and the kernel's window."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _product(node: ir.Node, inputs: Any, output: Any) -> int:
    return math.prod(output) * inputs[0][-1]


def _gemm(node: ir.Node, inputs: Any, output: Any) -> int:
    return math.prod(output) * inputs[0][0 if node.attributes.get_int("transA", 0) else 1]


def _recurrence(node: ir.Node, inputs: Any, output: Any) -> int:
    """Each step multiplies input and state with the gates' weights; X is (steps, batch, input)."""
    steps, batch = inputs[0][:2] if node.attributes.get_int("layout", 0) == 0 else inputs[0][1::-1]
    return steps * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


def _einsum(node: ir.Node, inputs: Any, output: Any) -> int | None:
    """Each combination of indices is one product, whatever is summed over."""
    terms = node.attributes.get_string("equation", "").split("->")[0].replace(" ", "").split(",")
    if any("." in term for term in terms):
        return None
    sizes = {
        letter: size
        for term, shape in zip(terms, inputs, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values()) * (len(terms) - 1)


def _unknown(node: ir.Node, inputs: Any, output: Any) -> None:
    return None


_RULES: dict[str, Callable[..., int | None]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "DeformConv": _convolution(1),
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Gemm": _gemm,
    "RNN": _recurrence,
    "GRU": _recurrence,
    "LSTM": _recurrence,
    "Attention": _unknown,
    "Einsum": _einsum,
}
