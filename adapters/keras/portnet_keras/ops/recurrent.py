"""RNN, GRU and LSTM by the standard's formulas.

Keras's own layers add both biases into one, so they cannot hold ONNX's parameters; here W, R, B and P stay
weights of their own and the steps run in one loop of the backend.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import BACKEND, keras, ops
from portnet_keras.operation import operation
from portnet_keras.ops.registry import op

__all__: list[str] = []

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

# name -> (function(x, alpha, beta), default alpha, default beta)
_ACTIVATIONS: dict[str, tuple[Callable[..., Any], float, float]] = {
    "Sigmoid": (lambda x, a, b: ops.sigmoid(x), 0, 0),
    "Tanh": (lambda x, a, b: ops.tanh(x), 0, 0),
    "Relu": (lambda x, a, b: ops.relu(x), 0, 0),
    "Affine": (lambda x, a, b: x * a + b, 1, 0),
    "LeakyRelu": (lambda x, a, b: ops.where(x < 0, x * a, x), 0.01, 0),
    "ThresholdedRelu": (lambda x, a, b: ops.where(x > a, x, x * 0), 1, 0),
    "ScaledTanh": (lambda x, a, b: ops.tanh(x * b) * a, 1, 1),
    "HardSigmoid": (lambda x, a, b: ops.clip(x * a + b, 0, 1), 0.2, 0.5),
    "Elu": (lambda x, a, b: ops.where(x > 0, x, (ops.exp(x) - 1) * a), 1, 0),
    "Softsign": (lambda x, a, b: x / (ops.abs(x) + 1), 0, 0),
    "Softplus": (lambda x, a, b: ops.softplus(x), 0, 0),
}


def _activation(spec: Any) -> Callable[[Any], Any]:
    name, alpha, beta = spec
    function, default_alpha, default_beta = _ACTIVATIONS[name]
    a = default_alpha if alpha is None else alpha
    b = default_beta if beta is None else beta
    return lambda x: function(x, a, b)


def _specs(walk: Any, node: NodeView) -> list[list[Any]]:
    """Name, alpha and beta of every activation; alphas and betas are listed only for those that take them."""
    count = 2 if node["direction"] == "bidirectional" else 1
    names = node.get("activations") or _DEFAULTS[node.op] * count
    alphas, betas = list(node.get("activation_alpha") or []), list(node.get("activation_beta") or [])
    canonical = {name.lower(): name for name in _ACTIVATIONS}
    specs = []
    for name in names:
        if name.lower() not in canonical:
            raise walk.unsupported(f"activation {name}")
        specs.append([canonical[name.lower()], alphas.pop(0) if alphas else None, betas.pop(0) if betas else None])
    return specs


@op("RNN", "GRU", "LSTM")
def recurrent(walk: Any, node: NodeView) -> list[Any]:
    """One recurrent layer in one or both directions."""
    tensors = [walk.optional_plain(node.input(i)) for i in range(8)]
    x, w, r, b, lengths, h, c, p = tensors
    batch_first, hidden = bool(node.get("layout", 0)), int(w.shape[1]) // _GATES[node.op]
    x = ops.transpose(x, (1, 0, 2)) if batch_first else x
    h, c = (ops.transpose(s, (1, 0, 2)) if batch_first and s is not None else s for s in (h, c))
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[node["direction"]]
    specs = _specs(walk, node)
    each = len(specs) // len(directions)
    parts = [
        walk.apply(
            scan_steps,
            node,
            x,
            *(None if t is None else t[d] for t in (w, r, b)),
            lengths,
            *(None if t is None else t[d] for t in (h, c, p)),
            op=node.op,
            hidden=hidden,
            backwards=backwards,
            activations=specs[d * each : (d + 1) * each],
            clip=node.get("clip"),
            flag=bool(node.get("linear_before_reset", 0) or node.get("input_forget", 0)),
        )
        for d, backwards in enumerate(directions)
    ]
    y, *states = (ops.stack(part, axis=axis) for part, axis in zip(zip(*parts, strict=True), (1, 0, 0), strict=False))
    if not batch_first:
        return [y, *states]
    return [ops.transpose(y, (2, 0, 1, 3)), *(ops.transpose(state, (1, 0, 2)) for state in states)]


def _steps_spec(x: Any, *tensors: Any, op: str, hidden: int, **attributes: Any) -> Any:
    """Shapes of `scan_steps`: every output, then the last states."""
    steps, batch = x.shape[:2]
    states = [keras.KerasTensor((batch, hidden), dtype=x.dtype) for _ in range(2 if op == "LSTM" else 1)]
    return [keras.KerasTensor((steps, batch, hidden), dtype=x.dtype), *states]


@functools.partial(operation, spec=_steps_spec)
def scan_steps(
    x: Any,
    w: Any,
    r: Any,
    b: Any,
    lengths: Any,
    h: Any,
    c: Any,
    p: Any,
    *,
    op: str,
    hidden: int,
    backwards: bool,
    activations: Any,
    clip: float | None,
    flag: bool,
) -> Any:
    """Run one direction over x (steps, batch, inputs); return every output and the last states."""
    steps, batch = ops.shape(x)[:2]
    gates = _GATES[op]
    bias = ops.zeros((2, gates * hidden), x.dtype) if b is None else ops.reshape(b, (2, gates * hidden))
    zeros = ops.zeros((batch, hidden), x.dtype)
    state = [zeros if h is None else h] + ([zeros if c is None else c] if op == "LSTM" else [])
    lengths = ops.broadcast_to(steps if lengths is None else ops.cast(lengths, "int32"), (batch,))
    cell = _CELLS[op](ops.transpose(r), bias[1], p, [_activation(spec) for spec in activations], clip, flag)
    projected = ops.add(ops.matmul(x, ops.transpose(w)), bias[0])
    times = ops.arange(steps, dtype="int32")
    if backwards:
        projected, times = ops.flip(projected, axis=0), ops.flip(times)

    def step(state: Any, entry: Any) -> tuple[Any, Any]:
        projection, time = entry
        alive = ops.expand_dims(ops.less(time, lengths), -1)
        new = cell(projection, *state)
        kept = [ops.where(alive, fresh, old) for fresh, old in zip(new, state, strict=True)]
        # Keras wants outputs of the same structure as the state
        return kept, [ops.where(alive, new[0], zeros), *kept[1:]]

    state, (outputs, *_) = _scan(step, state, (projected, times))
    return [ops.flip(outputs, axis=0) if backwards else outputs, *state]


def _scan(step: Callable[..., Any], state: list[Any], entries: tuple[Any, ...]) -> tuple[Any, Any]:
    """Run ``step`` over the first axis; Keras's own scan needs to know its length, TensorFlow's does not."""
    if BACKEND != "tensorflow" or entries[0].shape[0] is not None:
        return ops.scan(step, state, entries)
    import tensorflow as tf

    states, outputs = tf.scan(lambda carried, entry: step(carried[0], entry), entries, (state, state))
    return [each[-1] for each in states], outputs


def _clipped(clip: float | None) -> Callable[[Any], Any]:
    return (lambda x: x) if clip is None else lambda x: ops.clip(x, -clip, clip)


def _rnn(r: Any, bias: Any, p: Any, f: Any, clip: float | None, flag: bool) -> Callable[..., list[Any]]:
    bound = _clipped(clip)
    return lambda x, h: [f[0](bound(x + ops.matmul(h, r) + bias))]


def _gru(r: Any, bias: Any, p: Any, f: Any, clip: float | None, linear_before_reset: bool) -> Callable[..., list[Any]]:
    bound, n = _clipped(clip), bias.shape[0] // 3

    def cell(x: Any, h: Any) -> list[Any]:
        both = x[:, : 2 * n] + ops.matmul(h, r[:, : 2 * n]) + bias[: 2 * n]
        gates = f[0](bound(both))
        update, reset = gates[:, :n], gates[:, n:]
        if linear_before_reset:
            inner = reset * (ops.matmul(h, r[:, 2 * n :]) + bias[2 * n :])
        else:
            inner = ops.matmul(reset * h, r[:, 2 * n :]) + bias[2 * n :]
        fresh = f[1](bound(x[:, 2 * n :] + inner))
        return [fresh - update * fresh + update * h]

    return cell


def _lstm(r: Any, bias: Any, p: Any, f: Any, clip: float | None, input_forget: bool) -> Callable[..., list[Any]]:
    bound, n = _clipped(clip), bias.shape[0] // 4
    peep_i, peep_o, peep_f = (0, 0, 0) if p is None else (p[:n], p[n : 2 * n], p[2 * n :])

    def cell(x: Any, h: Any, c: Any) -> list[Any]:
        z = x + ops.matmul(h, r) + bias
        i = f[0](bound(z[:, :n] + c * peep_i))
        forget = 1 - i if input_forget else f[0](bound(z[:, 2 * n : 3 * n] + c * peep_f))
        memory = forget * c + i * f[1](bound(z[:, 3 * n :]))
        o = f[0](bound(z[:, n : 2 * n] + memory * peep_o))
        return [o * f[2](memory), memory]

    return cell


_CELLS = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}
