"""RNN, GRU and LSTM: MXNet's fused operator where it has the cell, else the cell step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, cast, op

# op -> order of MXNet's gates among ONNX's, mode of mx.sym.RNN, activations of the cell it computes
_GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}
_MODES = {"RNN": "rnn_tanh", "GRU": "gru", "LSTM": "lstm"}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

# longest sequence that is written out step by step
_MAX_STEPS = 512

Activation = Callable[[Symbol], Symbol]


@dataclass
class _Direction:
    """One direction's arrays: W (gates·H, I), R (gates·H, H), biases (gates·H,), peepholes (3·H,), states (N, H)."""

    w: Symbol
    r: Symbol
    w_bias: Symbol | None
    r_bias: Symbol | None
    peepholes: Symbol | None
    states: list[Symbol]


@op("RNN", "GRU", "LSTM")
def recurrent(walk: Any, node: NodeView) -> list[Symbol]:
    """Return Y, Y_h and, for LSTM, Y_c."""
    x = walk.value(node.required(0))
    if node.get("layout", 0):
        x = mx.sym.swapaxes(x, dim1=0, dim2=1)
    lengths = None if node.input(4) is None else cast(walk.value(node.required(4)), "float32")
    y, *states = _fused(walk, node, x) if _is_plain(walk, node, lengths) else _written_out(walk, node, x, lengths)
    if node.get("layout", 0):
        # Y (T, D, N, H) to (N, T, D, H), states (D, N, H) to (N, D, H)
        return [mx.sym.transpose(y, axes=(2, 0, 1, 3)), *(mx.sym.swapaxes(state, dim1=0, dim2=1) for state in states)]
    return [y, *states]


def _activations(node: NodeView) -> list[str]:
    directions = 2 if node["direction"] == "bidirectional" else 1
    return list(node.get("activations") or _DEFAULTS[node.op] * directions)


def _is_plain(walk: Any, node: NodeView, lengths: Symbol | None) -> bool:
    directions = 2 if node["direction"] == "bidirectional" else 1
    usual = _activations(node) == _DEFAULTS[node.op] * directions and node.get("clip") is None
    cell = node.get("linear_before_reset", 1) == 1 and not node.get("input_forget", 0) and node.input(7) is None
    return usual and cell and lengths is None and walk.dtype(node.required(0)) == "float32"


# ---- fused


def _fused(walk: Any, node: NodeView, x: Symbol) -> list[Symbol]:
    """``mx.sym.RNN`` of one layer, its parameters put together in MXNet's order of gates."""
    hidden, count = int(node["hidden_size"]), len(_GATES[node.op])
    both = node["direction"] == "bidirectional"
    backward = node["direction"] == "reverse"
    data = mx.sym.flip(x, axis=0) if backward else x
    found = mx.sym.RNN(
        data,
        _packed(walk, node, hidden, count, 1 + both),
        *_initial_states(walk, node, x, hidden, 1 + both),
        state_size=hidden,
        num_layers=1,
        mode=_MODES[node.op],
        bidirectional=both,
        state_outputs=True,
        name=node.name,
    )
    y = mx.sym.flip(found[0], axis=0) if backward else found[0]
    split = mx.sym.reshape(y, shape=(0, 0, 1 + both, hidden))
    return [mx.sym.swapaxes(split, dim1=1, dim2=2), *(found[i] for i in range(1, 3 if node.op == "LSTM" else 2))]


def _packed(walk: Any, node: NodeView, hidden: int, count: int, directions: int) -> Symbol:
    """Return W and R of each direction, then their biases, as one vector."""
    w, r = walk.value(node.required(1)), walk.value(node.required(2))
    bias = walk.optional(node.input(3))
    if bias is None:
        bias = mx.sym.zeros(shape=(directions, 2 * count * hidden))
    halves = [mx.sym.slice_axis(bias, axis=1, begin=i * count * hidden, end=(i + 1) * count * hidden) for i in (0, 1)]
    parts = [part for d in range(directions) for part in (_direction_of(w, d), _direction_of(r, d))]
    parts += [part for d in range(directions) for part in (_direction_of(half, d) for half in halves)]
    ordered = [_in_order(part, _GATES[node.op], hidden) for part in parts]
    return mx.sym.concat(*(mx.sym.reshape(part, shape=(-1,)) for part in ordered), dim=0)


def _direction_of(array: Symbol, direction: int) -> Symbol:
    """Return the rows of one direction, its axis dropped."""
    one = mx.sym.slice_axis(array, axis=0, begin=direction, end=direction + 1)
    return mx.sym.reshape(one, shape=(-3, -2))


def _in_order(array: Symbol, order: list[int], hidden: int) -> Symbol:
    return mx.sym.concat(*(_gate(array, gate, hidden, 0) for gate in order), dim=0)


def _gate(array: Symbol, gate: int, hidden: int, axis: int) -> Symbol:
    return mx.sym.slice_axis(array, axis=axis, begin=gate * hidden, end=(gate + 1) * hidden)


def _initial_states(walk: Any, node: NodeView, x: Symbol, hidden: int, directions: int) -> list[Symbol]:
    """Return the initial hidden state, and cell of LSTM, (D, N, H): as given, or zeros of the batch's size."""
    given = [walk.optional(node.input(i)) for i in ((5, 6) if node.op == "LSTM" else (5,))]
    if node.get("layout", 0):
        given = [None if state is None else mx.sym.swapaxes(state, dim1=0, dim2=1) for state in given]
    return [_zeros(x, hidden, directions) if state is None else state for state in given]


def _zeros(x: Symbol, hidden: int, directions: int) -> Symbol:
    row = mx.sym.zeros_like(mx.sym.slice(x, begin=(0, None, 0), end=(1, None, 1)))
    return mx.sym.tile(row, reps=(directions, 1, hidden))


# ---- step by step


def _written_out(walk: Any, node: NodeView, x: Symbol, lengths: Symbol | None) -> list[Symbol]:
    steps = walk.static_shape(node.required(0))[1 if node.get("layout", 0) else 0]
    if steps is None or steps > _MAX_STEPS:
        raise walk.unsupported(f"sequence length: got {steps or 'a free one'}, expected at most {_MAX_STEPS}")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[node["direction"]]
    functions = _functions(walk, node, len(backwards))
    results = [
        _one_way(node, x, _direction(walk, node, x, d, len(backwards)), functions[d], steps, lengths, reverse=reverse)
        for d, reverse in enumerate(backwards)
    ]
    y = mx.sym.stack(*(outputs for outputs, _ in results), axis=1)
    return [y, *(mx.sym.stack(*states, axis=0) for states in zip(*(states for _, states in results), strict=True))]


def _direction(walk: Any, node: NodeView, x: Symbol, d: int, directions: int) -> _Direction:
    hidden, count = int(node["hidden_size"]), len(_GATES[node.op])
    bias, peepholes = walk.optional(node.input(3)), walk.optional(node.input(7))
    bias = None if bias is None else _direction_of(bias, d)
    halves = [None if bias is None else _gate(bias, i, count * hidden, 0) for i in (0, 1)]
    states = [_direction_of(state, d) for state in _initial_states(walk, node, x, hidden, directions)]
    w, r = (_direction_of(walk.value(node.required(i)), d) for i in (1, 2))
    return _Direction(w, r, *halves, None if peepholes is None else _direction_of(peepholes, d), states)


def _one_way(
    node: NodeView,
    x: Symbol,
    part: _Direction,
    functions: Sequence[Activation],
    steps: int,
    lengths: Symbol | None,
    *,
    reverse: bool,
) -> tuple[Symbol, list[Symbol]]:
    """Return the outputs (T, N, H) of one direction, and its last states."""
    x, states, outputs = _reversed(x, lengths) if reverse else x, part.states, []
    cell = _CELLS[node.op]
    for t in range(steps):
        xt = mx.sym.reshape(mx.sym.slice_axis(x, axis=0, begin=t, end=t + 1), shape=(-3, -2))
        new = cell(node, xt, part, functions, states)
        if lengths is not None:
            alive = mx.sym.expand_dims(lengths > t, axis=1)
            new = [_kept(alive, now, before) for now, before in zip(new, states, strict=True)]
            outputs.append(mx.sym.broadcast_mul(new[0], alive))
        else:
            outputs.append(new[0])
        states = new
    y = mx.sym.stack(*outputs, axis=0)
    return (_reversed(y, lengths) if reverse else y), states


def _reversed(x: Symbol, lengths: Symbol | None) -> Symbol:
    if lengths is None:
        return mx.sym.flip(x, axis=0)
    return mx.sym.SequenceReverse(x, lengths, use_sequence_length=True, axis=0)


def _kept(alive: Symbol, now: Symbol, before: Symbol) -> Symbol:
    return mx.sym.broadcast_add(mx.sym.broadcast_mul(now, alive), mx.sym.broadcast_mul(before, 1 - alive))


def _dense(x: Symbol, weight: Symbol, bias: Symbol | None) -> Symbol:
    product = mx.sym.dot(x, weight, transpose_b=True)
    return product if bias is None else mx.sym.broadcast_add(product, bias)


def _rnn_cell(node: NodeView, x: Symbol, p: _Direction, f: Sequence[Activation], states: list[Symbol]) -> list[Symbol]:
    """Hₜ = f(x·Wᵀ + H·Rᵀ + b)."""
    return [f[0](_dense(x, p.w, p.w_bias) + _dense(states[0], p.r, p.r_bias))]


def _gru_cell(node: NodeView, x: Symbol, p: _Direction, f: Sequence[Activation], states: list[Symbol]) -> list[Symbol]:
    """Gates z, r, h; ``linear_before_reset`` resets the product, else the state."""
    (h,), size = states, int(node["hidden_size"])
    given, recurrent = _dense(x, p.w, p.w_bias), _dense(h, p.r, p.r_bias)
    z, r = (f[0](_gate(given, i, size, 1) + _gate(recurrent, i, size, 1)) for i in (0, 1))
    if node["linear_before_reset"]:
        reset = r * _gate(recurrent, 2, size, 1)
    else:
        bias = None if p.r_bias is None else _gate(p.r_bias, 2, size, 0)
        reset = _dense(r * h, _gate(p.r, 2, size, 0), bias)
    candidate = f[1](_gate(given, 2, size, 1) + reset)
    return [(1 - z) * candidate + z * h]


def _lstm_cell(node: NodeView, x: Symbol, p: _Direction, f: Sequence[Activation], states: list[Symbol]) -> list[Symbol]:
    """Gates i, o, f, c, with peepholes from the cell."""
    (h, c), size = states, int(node["hidden_size"])
    sums = _dense(x, p.w, p.w_bias) + _dense(h, p.r, p.r_bias)

    def gate(index: int, peephole: int | None, cell: Symbol) -> Symbol:
        total = _gate(sums, index, size, 1)
        if p.peepholes is None or peephole is None:
            return total
        return mx.sym.broadcast_add(total, mx.sym.broadcast_mul(cell, _gate(p.peepholes, peephole, size, 0)))

    i = f[0](gate(0, 0, c))
    forget = 1 - i if node.get("input_forget", 0) else f[0](gate(2, 2, c))
    cell = forget * c + i * f[1](gate(3, None, c))
    return [f[0](gate(1, 1, cell)) * f[2](cell), cell]


_CELLS = {"RNN": _rnn_cell, "GRU": _gru_cell, "LSTM": _lstm_cell}

# name in lower case -> function of the argument, alpha and beta; the defaults of both, None where it takes none
_KNOWN: dict[str, tuple[Callable[[Symbol, float, float], Symbol], float | None, float | None]] = {
    "tanh": (lambda x, a, b: mx.sym.tanh(x), None, None),
    "sigmoid": (lambda x, a, b: mx.sym.sigmoid(x), None, None),
    "relu": (lambda x, a, b: mx.sym.relu(x), None, None),
    "affine": (lambda x, a, b: x * a + b, 1, 0),
    "leakyrelu": (lambda x, a, b: mx.sym.LeakyReLU(x, act_type="leaky", slope=a), 0.01, None),
    "thresholdedrelu": (lambda x, a, b: x * (x > a), 1, None),
    "scaledtanh": (lambda x, a, b: mx.sym.tanh(x * b) * a, 1, 1),
    "hardsigmoid": (lambda x, a, b: mx.sym.hard_sigmoid(x, alpha=a, beta=b), 0.2, 0.5),
    "elu": (lambda x, a, b: mx.sym.LeakyReLU(x, act_type="elu", slope=a), 1, None),
    "softsign": (lambda x, a, b: mx.sym.softsign(x), None, None),
    "softplus": (lambda x, a, b: mx.sym.Activation(x, act_type="softrelu"), None, None),
}


def _functions(walk: Any, node: NodeView, directions: int) -> list[list[Activation]]:
    names = [name.lower() for name in _activations(node)]
    unknown = sorted(set(names) - set(_KNOWN))
    if unknown:
        raise walk.unsupported(f"activations: got {', '.join(unknown)}")
    alphas, betas = iter(node.get("activation_alpha") or ()), iter(node.get("activation_beta") or ())
    made = []
    for place, name in enumerate(names):
        function, alpha, beta = _KNOWN[name]
        # the function of an LSTM's cell, its third, is no gate's
        bound = None if node.op == "LSTM" and place % 3 == 2 else node.get("clip")
        made.append(_activation(function, _next(alphas, alpha), _next(betas, beta), bound))
    count = len(made) // directions
    return [made[d * count : (d + 1) * count] for d in range(directions)]


def _next(given: Any, default: float | None) -> float:
    """Return the next given number, for a function that takes one."""
    return 0.0 if default is None else float(next(given, default))


def _activation(
    function: Callable[[Symbol, float, float], Symbol], alpha: float, beta: float, bound: float | None
) -> Activation:
    if bound is None:
        return lambda x: function(x, alpha, beta)
    return lambda x: function(mx.sym.clip(x, a_min=-bound, a_max=bound), alpha, beta)
