"""Eltwise, Scale, Bias, Axpy, Reduction."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.caffe.text import Message
from portnet.formats.writer import rank_of, sizes_of

_ELTWISE = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}
_REDUCTIONS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@caffe("Eltwise")
def eltwise(layer: Layer) -> ir.Value:
    """The sum, each tensor times its coefficient; the product; or the largest."""
    options = layer.options("eltwise_param")
    operation = options.word("operation", "SUM", ("PROD", "SUM", "MAX"))
    coefficients = options.numbers("coeff")
    if operation not in _ELTWISE or len(layer.bottoms) < 2 or len({sizes_of(x) for x in layer.bottoms}) > 1:
        raise NotExpressible(f"{operation} of {', '.join(str(sizes_of(x)) for x in layer.bottoms)}")
    if coefficients and (operation != "SUM" or len(coefficients) != len(layer.bottoms)):
        raise NotExpressible(f"{operation} with {len(coefficients)} coefficients")
    terms = [
        x if factor == 1 else layer.node("Mul", [x, layer.number(factor, f"coeff{place}")], f"term{place}")
        for place, (x, factor) in enumerate(zip(layer.bottoms, coefficients or [1] * len(layer.bottoms), strict=True))
    ]
    if operation == "MAX":
        return layer.node("Max", terms)
    result = terms[0]
    for place, term in enumerate(terms[1:], start=2):
        result = layer.node(_ELTWISE[operation], [result, term], "" if place == len(terms) else f"partial{place}")
    return result


@caffe("Scale")
def scale(layer: Layer) -> ir.Value:
    """x times an array, or times a second tensor, from ``axis`` on; and a bias."""
    options = layer.options("scale_param")
    has_bias = options.flag("bias_term", False)
    learned = 0 if len(layer.bottoms) > 1 else 1
    if learned:
        shape, to = _covered(layer, options)
        factor = layer.weight("weight", 0, shape, to=to, filler=options.message("filler"), constant=1)
    else:
        factor, shape, to = _second(layer, options)
    product = layer.node("Mul", [layer.x, factor], "product" if has_bias else "")
    if not has_bias:
        return product
    return layer.node(
        "Add", [product, layer.weight("bias", learned, shape, to=to, filler=options.message("bias_filler"))]
    )


@caffe("Bias")
def bias(layer: Layer) -> ir.Value:
    """x plus an array, or plus a second tensor, from ``axis`` on."""
    options = layer.options("bias_param")
    if len(layer.bottoms) > 1:
        return layer.node("Add", [layer.x, _second(layer, options)[0]])
    shape, to = _covered(layer, options)
    return layer.node("Add", [layer.x, layer.weight("bias", 0, shape, to=to, filler=options.message("filler"))])


def _covered(layer: Layer, options: Message) -> tuple[list[int], list[int]]:
    """Return the shape of an array that covers ``num_axes`` axes from ``axis`` on, and with ones behind it."""
    axis, rank, count = layer.axis(options.integer("axis", 1)), len(layer.sizes), options.integer("num_axes", 1)
    end = rank if count == -1 else axis + count
    if axis == 0 and count != 0:
        raise NotExpressible("over the batch")
    if not axis <= end <= rank:
        raise NotExpressible(f"over {count} axes from axis {axis} of {rank}")
    shape = [layer.size(a) for a in range(axis, end)]
    return shape, shape + [1] * (rank - end)


def _second(layer: Layer, options: Message) -> tuple[ir.Value, list[int], list[int]]:
    """Return the second tensor with axes of size 1 behind it, and its shape without and with them."""
    options.integer("num_axes", 1)
    second, rank, axis = layer.bottoms[1], len(layer.sizes), layer.axis(options.integer("axis", 1))
    behind = rank - axis - rank_of(second)
    if behind < 0:
        raise NotExpressible(f"by a tensor of {rank_of(second)} axes from axis {axis} of {rank}")
    sizes = sizes_of(second)
    shape = [1 if n is None else n for n in sizes]
    if behind:
        axes = layer.ints(range(rank_of(second), rank_of(second) + behind), "axes")
        second = layer.node("Unsqueeze", [second, axes], "second")
    return second, shape, shape + [1] * behind


@caffe("Axpy")
def axpy(layer: Layer) -> ir.Value:
    """a · x + y, a of shape (N, C) or (N, C, 1, 1) (SENet's layer)."""
    if len(layer.bottoms) != 3:
        raise NotExpressible(f"of {len(layer.bottoms)} tensors")
    a, x, y = layer.bottoms
    if rank_of(a) == 2:
        a = layer.node("Unsqueeze", [a, layer.ints([2, 3], "axes")], "a")
    return layer.node("Add", [layer.node("Mul", [a, x], "ax"), y])


@caffe("Reduction")
def reduction(layer: Layer) -> ir.Value:
    """The sum, sum of magnitudes, sum of squares or mean over all axes from ``axis`` on, times ``coeff``."""
    options = layer.options("reduction_param")
    operation = options.word("operation", "SUM", ("", "SUM", "ASUM", "SUMSQ", "MEAN"))
    axis, factor = layer.axis(options.integer("axis", 0)), options.number("coeff", 1)
    if operation not in _REDUCTIONS:
        raise NotExpressible(operation)
    inputs: Sequence[ir.Value] = [layer.x, layer.ints(range(axis, len(layer.sizes)), "axes")]
    reduced = layer.node(_REDUCTIONS[operation], inputs, "" if factor == 1 else "reduced", keepdims=0)
    return reduced if factor == 1 else layer.node("Mul", [reduced, layer.number(factor, "coeff")])
