"""gru and lstm (gru_layer.c, lstm_layer.c), whose axis 0 is time.

Darknet keeps a state from one call to the next; here a sequence begins with a state of zeros and is run whole. Where
``batch_normalize`` is set, each gate's products are normalised; as an ONNX operator has no place for that, scales and
statistics become part of the weights.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.formats.darknet.layer import EPSILON, Layer, NotExpressible
from portnet.formats.darknet.layers import statistics
from portnet.formats.writer import sizes_of

__all__ = ["gru", "lstm"]

# weights and bias of one gate
_Gate = tuple[np.ndarray, np.ndarray]


def lstm(layer: Layer) -> ir.Value:
    """LSTM. In the file: what multiplies the state for the gates i, f, o, g, then what multiplies the input."""
    return _recurrent(layer, "LSTM", "ifog", "iofg")


def gru(layer: Layer) -> ir.Value:
    """GRU. In the file: what multiplies the state for the gates z, r, h, then what multiplies the input."""
    candidate = "Tanh" if layer.section.integer("tanh", 0) else "Sigmoid"
    return _recurrent(layer, "GRU", "zrh", "zrh", ["Sigmoid", candidate])


def _recurrent(layer: Layer, op: str, stored: str, wanted: str, activations: list[str] | None = None) -> ir.Value:
    sizes = sizes_of(layer.x)
    if len(sizes) != 2:
        raise NotExpressible("of an image")
    name, width, inputs = layer.label(op.lower()), layer.positive("output", 1), int(sizes[1] or 0)
    state = {gate: _gate(layer, f"{name}.w{gate}", width, width) for gate in stored}
    given = {gate: _gate(layer, f"{name}.u{gate}", width, inputs) for gate in stored}
    arrays = {
        "weight": np.concatenate([given[gate][0] for gate in wanted]),
        "recurrent": np.concatenate([state[gate][0] for gate in wanted]),
        "bias": np.concatenate([gates[gate][1] for gates in (given, state) for gate in wanted]),
    }
    values = [layer.graph.weight(f"{name}.{key}", array[None]) for key, array in arrays.items()]
    one = layer.graph.ints([1], f"{name}/one")
    sequence = layer.graph.node("Unsqueeze", [layer.x, one], f"{name}/sequence")
    y = layer.graph.node(op, [sequence, *values], f"{name}/steps", hidden_size=width, activations=activations)
    return layer.graph.node("Squeeze", [y, layer.graph.ints([1, 2], f"{name}/ones")], name)


def _gate(layer: Layer, name: str, width: int, inputs: int) -> _Gate:
    """Return the arrays of a dense layer inside, with what normalises it taken in."""
    bias = layer.arrays.take(f"{name}.bias", (width,))
    kernel = layer.arrays.take(f"{name}.weight", (width, inputs), math.sqrt(2 / 3 / inputs))
    if layer.arrays.is_transposed:
        kernel = kernel.reshape(inputs, width).T
    if not layer.section.integer("batch_normalize", 0):
        return kernel, bias
    scale, mean, variance = statistics(layer, width, name)
    factor = scale / np.sqrt(variance + np.float32(EPSILON))
    return kernel * factor[:, None], bias - mean * factor
