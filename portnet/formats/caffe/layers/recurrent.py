"""LSTM and RNN (Donahue et al. 2015): axis 0 is time, axis 1 the batch.

Caffe reads, beside the sequence, where in it another one begins. Here a batch is of whole sequences, each from a state
of zeros, and that second input is left out.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.caffe.text import Message

# Caffe's gates are i, f, o, g; ONNX's i, o, f, g
_GATES = (0, 2, 1, 3)


@caffe("LSTM")
def lstm(layer: Layer) -> ir.Value:
    """LSTM; arrays (4 · num_output, features), (4 · num_output), (4 · num_output, num_output)."""
    width, features, options = _sizes(layer)
    blobs = [(4 * width, features), (4 * width,), (4 * width, width)]
    weight, bias, recurrent = (_blob(layer, options, index, shape) for index, shape in enumerate(blobs))
    return _run(layer, "LSTM", "", width, [_swapped(a) for a in (weight, recurrent, bias)])


@caffe("RNN")
def rnn(layer: Layer) -> ir.Value:
    """RNN of tanh and a dense layer of tanh on its state; arrays of the input, the state, the output, with biases."""
    width, features, options = _sizes(layer)
    blobs = [(width, features), (width,), (width, width), (width, width)]
    weight, bias, recurrent, _ = (_blob(layer, options, index, shape) for index, shape in enumerate(blobs))
    state = _run(layer, "RNN", "state", width, [weight, recurrent, bias])
    kernel = layer.weight("out.weight", 3, (width, width), filler=options.message("weight_filler"))
    turned = layer.node("Transpose", [kernel], "out.turned", perm=[1, 0])
    product = layer.node("MatMul", [state, turned], "out.product")
    shift = layer.weight("out.bias", 4, (width,), filler=options.message("bias_filler"))
    return layer.node("Tanh", [layer.node("Add", [product, shift], "out")])


def _sizes(layer: Layer) -> tuple[int, int, Message]:
    options = layer.options("recurrent_param")
    width = options.integer("num_output", 0)
    if len(layer.bottoms) != 1 or layer.tops != 1 or options.flag("expose_hidden", False) or width < 1:
        raise NotExpressible(f"of {len(layer.bottoms) + 1} tensors to {layer.tops} of {width}")
    if len(layer.sizes) < 3:
        raise NotExpressible(f"of {layer.sizes}, which has no axes of time, batch and features")
    options.flag("debug_info", False)
    return width, math.prod(layer.size(axis) for axis in range(2, len(layer.sizes))), options


def _blob(layer: Layer, options: Message, index: int, shape: tuple[int, ...]) -> np.ndarray:
    layer.check_sizes(shape, "weight")
    filler = options.message("bias_filler" if len(shape) == 1 else "weight_filler")
    return layer.arrays.get(layer.name, index, shape, filler)


def _swapped(array: np.ndarray) -> np.ndarray:
    return np.concatenate([np.split(array, 4)[gate] for gate in _GATES])


def _run(layer: Layer, op: str, what: str, width: int, arrays: list[np.ndarray]) -> ir.Value:
    weight, recurrent, bias = arrays
    both = np.concatenate([bias, np.zeros_like(bias)])
    pairs = (("weight", weight), ("recurrent", recurrent), ("bias", both))
    values = [layer.graph.weight(f"{layer.name}.{key}", array[None]) for key, array in pairs]
    x = layer.x
    if len(layer.sizes) > 3:
        x = layer.reshape(x, [None, layer.size(1), weight.shape[1]], "flat")
    y = layer.node(op, [x, *values], "steps", hidden_size=width)
    return layer.node("Squeeze", [y, layer.ints([1], "axis")], what)
