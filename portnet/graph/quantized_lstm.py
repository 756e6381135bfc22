"""onnxruntime's DynamicQuantizeLSTM as a Scan of standard ops.

Each product is of 8-bit integers: the whole input is quantized at once, the hidden state anew at every step, as
onnxruntime does (onnxruntime/contrib_ops/cpu/quantization/dynamic_quantize_lstm.cc).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import NEWEST, Site, python_attribute

__all__ = ["quantized_lstm"]

_FLOAT = ir.DataType.FLOAT
_DEFAULTS = ["sigmoid", "tanh", "tanh"]
_DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}


@dataclass(frozen=True)
class _Matrix:
    """An 8-bit weight (inputs, 4·hidden) of one direction, its scale and its zero point."""

    integers: ir.Value
    scale: ir.Value
    zero: ir.Value


def quantized_lstm(site: Site, node: ir.Node) -> tuple[ir.Value, ...] | None:
    """Return Y, Y_h and Y_c, or None for a variant without a rule: sequence lengths, peepholes, other activations."""
    x, w, r, b, lengths, h, c, peepholes, *scales = [*node.inputs, *[None] * (12 - len(node.inputs))][:12]
    activations = [name.lower() for name in python_attribute(node, "activations", _DEFAULTS)]
    plain = activations == _DEFAULTS * (len(activations) // 3) and "clip" not in node.attributes
    if lengths or peepholes or not plain or python_attribute(node, "input_forget", 0) or None in (w, r, *scales):
        return None
    assert x is not None
    directions = _DIRECTIONS.get(python_attribute(node, "direction", "forward"), ())
    hidden = python_attribute(node, "hidden_size", 0)
    results = []
    for index, backwards in enumerate(directions):
        one = lambda value, index=index: site.op("Gather", value, site.constant(np.int64(index), "direction"))  # noqa: E731
        weights, recurrence = (
            _Matrix(*(one(value) for value in values)) for values in ((w, *scales[:2]), (r, *scales[2:]))
        )
        bias = None if b is None else _bias(site, one(b), hidden)
        states = [one(s) if s is not None else _zeros(site, x, hidden) for s in (h, c)]
        results.append(_direction(site, x, weights, recurrence, bias, states, hidden, backwards))
    axes = [site.ints([axis], "axis") for axis in (1, 0, 0)]
    return tuple(
        site.op("Concat", *(site.op("Unsqueeze", value, axes[i]) for value in values), axis=(1, 0, 0)[i])
        for i, values in enumerate(zip(*results, strict=True))
    )


def _bias(site: Site, bias: ir.Value, hidden: int) -> ir.Value:
    """Add up the two biases."""
    first, second = site.ops("Split", bias, site.ints([4 * hidden] * 2, "sizes"), count=2, axis=0)
    return site.op("Add", first, second)


def _zeros(site: Site, x: ir.Value, hidden: int) -> ir.Value:
    batch = site.op("Shape", x, start=1, end=2)
    shape = site.op("Concat", batch, site.ints([hidden], "hidden"), axis=0)
    return site.op("ConstantOfShape", shape, value=ir.tensor(np.zeros(1, np.float32)))


def _direction(
    site: Site,
    x: ir.Value,
    weights: _Matrix,
    recurrence: _Matrix,
    bias: ir.Value | None,
    states: list[ir.Value],
    hidden: int,
    backwards: int,
) -> tuple[ir.Value, ...]:
    """Return every output (steps, batch, hidden), and the last hidden and cell state."""
    first, scale, zero = site.ops("DynamicQuantizeLinear", x, count=3)
    product = site.op("MatMulInteger", first, weights.integers, zero, weights.zero)
    factor = site.op("Mul", scale, weights.scale)
    gates = site.op("Mul", site.op("Cast", product, to=int(_FLOAT)), factor)
    gates = gates if bias is None else site.op("Add", gates, bias)
    h, c, y = site.ops(
        "Scan",
        *states,
        gates,
        count=3,
        body=_step(site, recurrence, hidden),
        num_scan_inputs=1,
        scan_input_directions=[backwards],
        scan_output_directions=[backwards],
    )
    return y, h, c


def _step(site: Site, recurrence: _Matrix, hidden: int) -> ir.Graph:
    """Return the graph of one step: h, c and the input's part of the gates in; new h, new c and the output out."""
    h, c, gates = (
        ir.Value(
            name=site.editor.fresh(f"{site.name}/{name}"), type=ir.TensorType(_FLOAT), shape=ir.Shape([None, size])
        )
        for name, size in (("h", hidden), ("c", hidden), ("gates", 4 * hidden))
    )
    nodes: list[ir.Node] = []

    def op(op_type: str, *inputs: ir.Value, count: int = 1, **attributes: int) -> list[ir.Value]:
        name = f"{site.name}/step/{op_type}"
        nodes.append(ir.node(op_type, inputs, attributes, num_outputs=count, name=name, version=NEWEST))
        for output in nodes[-1].outputs:
            output.name = site.editor.fresh(name)
        return list(nodes[-1].outputs)

    integers, scale, zero = op("DynamicQuantizeLinear", h, count=3)
    [product] = op("MatMulInteger", integers, recurrence.integers, zero, recurrence.zero)
    [factor] = op("Mul", scale, recurrence.scale)
    [scaled] = op("Mul", *op("Cast", product, to=int(_FLOAT)), factor)
    i, o, f, g = op("Split", *op("Add", gates, scaled), count=4, axis=1, num_outputs=4)
    kept, fresh = op("Mul", *op("Sigmoid", f), c), op("Mul", *op("Sigmoid", i), *op("Tanh", g))
    [cell] = op("Add", *kept, *fresh)
    [state] = op("Mul", *op("Sigmoid", o), *op("Tanh", cell))
    [output] = op("Identity", state)
    return ir.Graph([h, c, gates], [state, cell, output], nodes=nodes, name=site.editor.fresh(f"{site.name}/step"))
