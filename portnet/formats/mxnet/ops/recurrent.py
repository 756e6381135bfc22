"""The fused recurrent layers: one vector of parameters, (time, batch, channels).

The vector holds, for each layer and direction, the matrices for input and state, and then for each again the two
biases (``src/operator/rnn-inl.h``). MXNet's order of gates is i, f, c, o of an LSTM and r, z, h of a GRU; ONNX's is
i, o, f, c and z, r, h. They are written in ONNX's order, under names of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, WeightsError
from portnet.formats.mxnet.layer import Layer, Refused, op

# mode -> ONNX's op, order of gates, activations
_MODES: dict[str, tuple[str, tuple[int, ...], tuple[str, ...] | None]] = {
    "lstm": ("LSTM", (0, 3, 1, 2), None),
    "gru": ("GRU", (1, 0, 2), None),
    "rnn_tanh": ("RNN", (0,), ("Tanh",)),
    "rnn_relu": ("RNN", (0,), ("Relu",)),
}
_MAX_LAYERS = 256
_MAX_PARAMETERS = 1 << 28


@dataclass(frozen=True)
class _Sizes:
    width: int
    hidden: int
    layers: int
    directions: int
    gates: int

    def shapes(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield the shapes of the two matrices of each layer and direction."""
        for number in range(self.layers):
            incoming = self.width if number == 0 else self.hidden * self.directions
            for _ in range(self.directions):
                yield (self.gates * self.hidden, incoming), (self.gates * self.hidden, self.hidden)

    @property
    def count(self) -> int:
        rows = self.gates * self.hidden
        return sum(a[0] * a[1] + b[0] * b[1] + 2 * rows for a, b in self.shapes())


@op("RNN")
def rnn(layer: Layer) -> list[ir.Value]:
    get, x = layer.attributes, layer.value(0)
    get.ignore("p", "lstm_state_clip_nan")
    mode, hidden, depth = get.text("mode"), get.integer("state_size", least=1), get.integer("num_layers", least=1)
    directions, gives_states = 1 + get.flag("bidirectional", False), get.flag("state_outputs", False)
    for key in ("projection_size", "lstm_state_clip_min", "lstm_state_clip_max"):
        if get.maybe_number(key) is not None:
            raise Refused(f"{key} is set")
    if mode not in _MODES or get.flag("use_sequence_length", False):
        raise Refused(f"mode={mode}, or a length of each sequence")
    if depth > _MAX_LAYERS or layer.rank(x) != 3:
        raise ModelError(f"layer {layer.name!r} (RNN): got {depth} layers on {layer.rank(x)} axes")
    if get.number("p", 0.0):
        layer.note("the dropout between the layers of RNN is left out")
    sizes = _Sizes(layer.size(x, 2), hidden, depth, directions, len(_MODES[mode][1]))
    return _layers(layer, x, sizes, mode, gives_states)


def _layers(layer: Layer, x: ir.Value, sizes: _Sizes, mode: str, gives_states: bool) -> list[ir.Value]:
    target, order, activations = _MODES[mode]
    vector = _vector(layer, sizes)
    names = _names(layer, sizes)
    starts = [_states(layer, index, sizes) for index in ((2, 3) if mode == "lstm" else (2,))]
    finals: list[list[ir.Value]] = [[], []]
    for number, (w, r, b) in enumerate(_matrices(vector, sizes, order)):
        weights = [layer.writer.weight(name, array) for name, array in zip(names[number], (w, r, b), strict=True)]
        results = layer.writer.nodes(
            target,
            [x, *weights, None, *(start[number] for start in starts)],
            f"{layer.name}/l{number}",
            count=3 if mode == "lstm" else 2,
            hidden_size=sizes.hidden,
            direction="bidirectional" if sizes.directions == 2 else "forward",
            linear_before_reset=1 if mode == "gru" else None,
            activations=None if activations is None else list(activations) * sizes.directions,
        )
        for kept, state in zip(finals, results[1:], strict=False):
            kept.append(state)
        last = number == sizes.layers - 1
        turned = layer.step("Transpose", [results[0]], f"l{number}/turned", perm=[0, 2, 1, 3])
        shape = layer.ints([0, 0, sizes.directions * sizes.hidden], f"l{number}/shape")
        x = (
            layer.final("Reshape", [turned, shape])
            if last
            else layer.step("Reshape", [turned, shape], f"l{number}/joined")
        )
    return [x, *(_joined(layer, kept, i) for i, kept in enumerate(finals) if kept and gives_states)]


def _names(layer: Layer, sizes: _Sizes) -> list[tuple[str, ...]]:
    """Return what the arrays of each layer are called.

    ``X.l0.weight_ih``, where X is what the vector is called, or what the names of the parameters that it is joined
    from begin with. Three that one layer is joined from keep their names: they are ONNX's own.
    """
    sources = layer.sources(1)
    if len(sources) == 3 and sizes.layers == 1:
        return [tuple(sources)]
    # Gluon keeps the parameters of a fused layer in cells that it calls _unfused
    prefix = _beginning(sources).partition("._unfused")[0].rstrip("_.") or layer.name
    return [
        tuple(f"{prefix}.l{number}.{what}" for what in ("weight_ih", "weight_hh", "bias"))
        for number in range(sizes.layers)
    ]


def _beginning(names: list[str]) -> str:
    """Return what all names begin with."""
    shortest = min(names, key=len, default="")
    same = (len(set(letters)) == 1 for letters in zip(*names, strict=False))
    return shortest[: sum(itertools.takewhile(bool, same))]


def _joined(layer: Layer, states: list[ir.Value], index: int) -> ir.Value:
    name = f"{layer.name}.{index + 1}"
    op_type = "Identity" if len(states) == 1 else "Concat"
    return layer.writer.node(op_type, states, name, axis=0 if len(states) > 1 else None)


def _states(layer: Layer, index: int, sizes: _Sizes) -> list[ir.Value | None]:
    """Return the state that each layer starts from; None for zeros."""
    if index >= layer.count or layer.reads_zeros(index):
        return [None] * sizes.layers
    state = layer.value(index)
    if sizes.layers == 1:
        return [state]
    lengths = layer.ints([sizes.directions] * sizes.layers, f"state{index}/sizes")
    name = f"{layer.name}/state{index}"
    return list(layer.writer.nodes("Split", [state, lengths], name, count=sizes.layers, axis=0))


def _vector(layer: Layer, sizes: _Sizes) -> np.ndarray:
    vector = layer.array(1)
    if vector is None:
        raise Refused("its parameters are not known before it runs, or it came without weights")
    if sizes.hidden > _MAX_PARAMETERS or sizes.count > _MAX_PARAMETERS:
        raise ModelError(f"layer {layer.name!r} (RNN): got {sizes.count:,} parameters")
    if vector.size != sizes.count:
        raise WeightsError(f"layer {layer.name!r} (RNN): got {vector.size} parameters, expected {sizes.count}")
    return vector.reshape(-1)


def _matrices(
    vector: np.ndarray, sizes: _Sizes, order: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield W, R and B of each layer, directions first, in ONNX's order of gates."""
    at, matrices = 0, []
    for pair in sizes.shapes():
        for shape in pair:
            matrices.append(_ordered(vector[at : at + shape[0] * shape[1]].reshape(shape), order))
            at += shape[0] * shape[1]
    rows = sizes.gates * sizes.hidden
    biases = [_ordered(vector[start : start + rows], order) for start in range(at, vector.size, rows)]
    step = sizes.directions * 2
    for start in range(0, len(matrices), step):
        yield (
            np.stack(matrices[start : start + step : 2]),
            np.stack(matrices[start + 1 : start + step : 2]),
            np.concatenate(biases[start : start + step]).reshape(sizes.directions, -1),
        )


def _ordered(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.split(array, len(order))[gate] for gate in order])
