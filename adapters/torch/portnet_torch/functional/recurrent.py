"""Recurrent layers with every option of ONNX: any activation, clipping, peepholes, sequence lengths.

torch's own layers serve the usual options. Shapes: x (T, N, I); w (D, G·H, I), r (D, G·H, H), b (D, 2·G·H) for D
directions and G gates; states (D, N, H); y (T, D, N, H).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "relu": lambda x, a, b: torch.relu(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: torch.where(x < 0, a * x, x),
    "thresholdedrelu": lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x)),
    "scaledtanh": lambda x, a, b: a * torch.tanh(b * x),
    "hardsigmoid": lambda x, a, b: torch.clamp(a * x + b, 0.0, 1.0),
    "elu": lambda x, a, b: torch.where(x < 0, a * torch.expm1(x), x),
    "softsign": lambda x, a, b: x / (1 + x.abs()),
    "softplus": lambda x, a, b: torch.logaddexp(x, torch.zeros_like(x)),
}

Activation = tuple[str, float, float]
Step = Callable[[Tensor, list[Tensor]], list[Tensor]]


def _apply(activation: Activation, x: Tensor, clip: float | None) -> Tensor:
    name, alpha, beta = activation
    return _ACTIVATIONS[name](x if clip is None else x.clamp(-clip, clip), alpha, beta)


def _unroll(x: Tensor, states: list[Tensor], step: Step, lengths: Tensor | None, reverse: bool) -> list[Tensor]:
    """Run ``step`` over time; past its length a sequence keeps its state and gives zeros. Returns y and states."""
    outputs: list[Tensor] = []
    times = range(x.size(0))
    for time in reversed(times) if reverse else times:
        new = step(x[time], states)
        if lengths is not None:
            live = (time < lengths).unsqueeze(1)
            new = [torch.where(live, after, before) for after, before in zip(new, states, strict=True)]
            outputs.append(torch.where(live, new[0], torch.zeros_like(new[0])))
        else:
            outputs.append(new[0])
        states = new
    return [torch.stack(outputs[::-1] if reverse else outputs), *states]


def _directions(
    x: Tensor, initial: list[Tensor], make_step: Callable[[int], Step], lengths: Tensor | None, reverse: list[bool]
) -> tuple[Tensor, ...]:
    runs = [_unroll(x, [state[d] for state in initial], make_step(d), lengths, flip) for d, flip in enumerate(reverse)]
    y, *states = zip(*runs, strict=True)
    return (torch.stack(y, 1), *(torch.stack(state) for state in states))


def _zeros(x: Tensor, r: Tensor, state: Tensor | None) -> Tensor:
    return x.new_zeros(r.size(0), x.size(1), r.size(2)) if state is None else state


def _biases(r: Tensor, b: Tensor | None, direction: int) -> tuple[Tensor, Tensor]:
    width = r.size(1)
    both = r.new_zeros(2 * width) if b is None else b[direction]
    return both[:width], both[width:]


def rnn(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None, h: Tensor | None,
    activations: list[Activation], clip: float | None, reverse: list[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    """Run H = f(x·Wᵀ + h·Rᵀ + Wb + Rb) over time; return y and the last h."""

    def make_step(d: int) -> Step:
        wb, rb = _biases(r, b, d)
        return lambda x, s: [_apply(activations[d], x @ w[d].t() + s[0] @ r[d].t() + wb + rb, clip)]

    return _directions(x, [_zeros(x, r, h)], make_step, lengths, reverse)


def gru(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None, h: Tensor | None,
    activations: list[Activation], clip: float | None, reverse: list[bool], linear_before_reset: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Run a gated recurrent unit (gates z, r, h) over time; return y and the last h."""

    def make_step(d: int) -> Step:
        f, g = activations[2 * d : 2 * d + 2]
        wb, rb = _biases(r, b, d)
        rz, rr, rh = r[d].chunk(3)
        rbz, rbr, rbh = rb.chunk(3)

        def step(x: Tensor, states: list[Tensor]) -> list[Tensor]:
            (h,) = states
            xz, xr, xh = (x @ w[d].t() + wb).chunk(3, -1)
            update = _apply(f, xz + h @ rz.t() + rbz, clip)
            reset = _apply(f, xr + h @ rr.t() + rbr, clip)
            past = reset * (h @ rh.t() + rbh) if linear_before_reset else (reset * h) @ rh.t() + rbh
            return [(1 - update) * _apply(g, xh + past, clip) + update * h]

        return step

    return _directions(x, [_zeros(x, r, h)], make_step, lengths, reverse)


def lstm(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None, h: Tensor | None, c: Tensor | None,
    peepholes: Tensor | None, activations: list[Activation], clip: float | None, reverse: list[bool],
    input_forget: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Run a long short-term memory (gates i, o, f, c; peepholes i, o, f) over time; return y, the last h and c."""

    def make_step(d: int) -> Step:
        f, g, k = activations[3 * d : 3 * d + 3]
        bias = sum(_biases(r, b, d))
        pi, po, pf = (0.0, 0.0, 0.0) if peepholes is None else peepholes[d].chunk(3)

        def step(x: Tensor, states: list[Tensor]) -> list[Tensor]:
            h, c = states
            xi, xo, xf, xc = (x @ w[d].t() + h @ r[d].t() + bias).chunk(4, -1)
            i = _apply(f, xi + pi * c, clip)
            forget = 1 - i if input_forget else _apply(f, xf + pf * c, clip)
            c = forget * c + i * _apply(g, xc, clip)
            return [_apply(f, xo + po * c, clip) * _apply(k, c, None), c]

        return step

    return _directions(x, [_zeros(x, r, h), _zeros(x, r, c)], make_step, lengths, reverse)
