"""RNN, GRU and LSTM: torch's layers where the options are the usual ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from portnet.graph.lowering import NodeView
from portnet_torch.bare import bare
from portnet_torch.binding import Layout
from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import recurrent
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import TABLE, Walk

# activation -> defaults of alpha and beta
_DEFAULTS = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}


@dataclass(frozen=True)
class _Kind:
    """A kind of recurrent layer.

    Attributes:
        layer: torch's layer.
        function: ours, for the options that torch's lacks.
        gates: place of each of torch's gates among ONNX's.
        activations: ONNX's default activations of one direction.
        states: how many states it carries (h, or h and c).
    """

    layer: type[nn.RNNBase]
    function: Callable
    gates: tuple[int, ...]
    activations: tuple[str, ...]
    states: int = 1


KINDS = {
    "RNN": _Kind(nn.RNN, recurrent.rnn, (0,), ("tanh",)),
    "GRU": _Kind(nn.GRU, recurrent.gru, (1, 0, 2), ("sigmoid", "tanh")),
    "LSTM": _Kind(nn.LSTM, recurrent.lstm, (0, 2, 3, 1), ("sigmoid", "tanh", "tanh"), 2),
}

_REVERSE = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


def _recurrent(walk: Walk, node: NodeView) -> Any:
    kind, reverse = KINDS[node.op], _REVERSE[node["direction"]]
    batch_first = bool(node["layout"])
    x, states = walk.value(node.required(0)), [walk.optional(node.input(5 + i)) for i in range(kind.states)]
    if batch_first:
        x = walk.method("transpose", x, 0, 1)
        states = [None if s is None else walk.method("transpose", s, 0, 1) for s in states]
    run = _native if _is_usual(walk, node, kind) else _general
    y, *last = run(walk, node, kind, x, states, reverse)
    if batch_first:
        y = walk.method("permute", y, 2, 0, 1, 3)
        last = [walk.method("transpose", s, 0, 1) for s in last]
    return [y, *last][: len(node.outputs)]


TABLE.update(dict.fromkeys(KINDS, _recurrent))


def first_bias(walk: Walk, value: ir.Value | None) -> ir.Value | None:
    """Return the array behind an ONNX bias whose second half, the state's, is zeros that a Pad adds; else None."""
    pad = None if value is None else value.producer()
    if value is None or pad is None or pad.op_type != "Pad" or pad.domain or len(pad.inputs) != 2:
        return None
    bias, ends = pad.inputs
    if not (walk.is_weight(bias) and walk.is_exclusive(bias) and walk.is_exclusive(value) and walk.is_weight(ends)):
        return None
    shape, mode = walk.static_shape(bias), pad.attributes.get("mode")
    constant = mode is None or mode.as_string() == "constant"
    return bias if constant and len(shape) == 2 and ends.const_value.numpy().tolist() == [0, 0, 0, shape[1]] else None


def is_taken_over(walk: Walk, node: NodeView) -> bool:
    """Whether a Pad makes the bias of one of torch's recurrent layers, which needs no second half."""
    (use, *more) = [*node.outputs[0].uses(), None]
    if use is None or more != [None] or use.node.op_type not in KINDS or use.idx != 3:
        return False
    reader = NodeView(use.node, node.opset)
    return first_bias(walk, node.outputs[0]) is not None and _is_usual(walk, reader, KINDS[reader.op])


def _activations(node: NodeView, kind: _Kind, directions: int) -> list[recurrent.Activation]:
    """Return (name, alpha, beta) for each activation of each direction."""
    names = [name.lower() for name in node.get("activations") or kind.activations * directions]
    alphas, betas = list(node.get("activation_alpha") or []), list(node.get("activation_beta") or [])
    result = []
    for name in names:
        alpha, beta = _DEFAULTS.get(name, (0.0, 0.0))
        takes = name in _DEFAULTS
        alpha = shortest(alphas.pop(0)) if takes and alphas else alpha
        beta = shortest(betas.pop(0)) if takes and betas else beta
        result.append((name, alpha, beta))
    return result


def _is_usual(walk: Walk, node: NodeView, kind: _Kind) -> bool:
    names = {name.lower() for name in node.get("activations") or []}
    usual = tuple(name.lower() for name in node.get("activations") or kind.activations)
    default = usual == kind.activations * (len(usual) // len(kind.activations))
    plain_rnn = node.op == "RNN" and names in ({"relu"}, {"tanh"})
    options = node.get("clip") is None and not node.get("input_forget", 0) and node.get("linear_before_reset", 1)
    inputs = node.input(4) is None and node.input(7) is None
    bias = first_bias(walk, node.input(3)) or node.input(3)
    return (default or plain_rnn) and options and inputs and walk.adoptable(node.input(1), node.input(2), bias)


def _native(walk: Walk, node: NodeView, kind: _Kind, x: Any, states: list[Any], reverse: list[bool]) -> list[Any]:
    w, r, b = node.required(1), node.required(2), node.input(3)
    directions, _, inputs = walk.static_shape(w)
    hidden = walk.static_shape(r)[2]
    backwards = reverse == [True]
    options = {"nonlinearity": node["activations"][0].lower()} if node.op == "RNN" and node.get("activations") else {}
    layer = bare(kind.layer, inputs, hidden, bias=b is not None, bidirectional=directions == 2, **options)
    if first_bias(walk, b) is not None:
        b = first_bias(walk, b)
        _rest(layer, w)
    x = walk.call(torch.flip, x, [0]) if backwards else x
    result = walk.adopt(layer, node, _weights(kind, directions, w, r, b), x, *_initial(walk, kind, states))
    y = walk.method("unflatten", result[0], 2, (directions, hidden))
    y = walk.method("permute", walk.call(torch.flip, y, [0]) if backwards else y, 0, 2, 1, 3)
    return [y, result[1]] if kind.states == 1 else [y, result[1][0], result[1][1]]


def _weights(
    kind: _Kind, directions: int, w: ir.Value, r: ir.Value, b: ir.Value | None
) -> dict[str, tuple[ir.Value | None, Layout]]:
    suffixes = ["_l0", "_l0_reverse"][:directions]
    gates = _gates(kind)
    weights = {" ".join(f"weight_ih{s}" for s in suffixes): (w, gates)}
    weights[" ".join(f"weight_hh{s}" for s in suffixes)] = (r, gates)
    if b is not None:
        shape, each = b.const_value.shape, w.const_value.shape[1]  # type: ignore[union-attr]
        parts = ("ih", "hh") if shape[1] == 2 * each else ("ih",)
        weights[" ".join(f"bias_{part}{s}" for s in suffixes for part in parts)] = (b, _gates(kind, len(parts)))
    return weights


def _rest(layer: nn.RNNBase, like: ir.Value) -> None:
    """Give a layer biases of its states that are zeros, and do not train."""
    dtype = torch_dtype(like.const_value.dtype)  # type: ignore[union-attr]
    for name, value in list(layer.named_parameters()):
        if name.startswith("bias_hh"):
            setattr(layer, name, nn.Parameter(torch.zeros(value.shape, dtype=dtype), requires_grad=False))


def _gates(kind: _Kind, parts: int = 1) -> Layout:
    """Return the layout of an ONNX array (directions, parts·gates·H, …) in torch's order of gates."""
    order = kind.gates
    back = [order.index(gate) for gate in range(len(order))]

    def reorder(tensor: Any, places: Sequence[int]) -> Tensor:
        chunks = tensor.chunk(len(places))
        return torch.cat([chunks[place] for place in places])

    def join(tensors: Sequence[Tensor]) -> Tensor:
        halves = [reorder(tensor, back) for tensor in tensors]
        return torch.stack([torch.cat(halves[i : i + parts]) for i in range(0, len(halves), parts)])

    return Layout(lambda array: [reorder(half, order) for one in array for half in one.chunk(parts)], join)


def _initial(walk: Walk, kind: _Kind, states: list[Any]) -> tuple[Any, ...]:
    known = next((state for state in states if state is not None), None)
    if known is None:
        return ()
    full = [walk.call(torch.zeros_like, known) if state is None else state for state in states]
    return (full[0],) if kind.states == 1 else (tuple(full),)


def _general(walk: Walk, node: NodeView, kind: _Kind, x: Any, states: list[Any], reverse: list[bool]) -> Any:
    w, r, b, lengths = (walk.optional(node.input(i)) for i in (1, 2, 3, 4))
    clip = None if node.get("clip") is None else shortest(node["clip"])
    options = _activations(node, kind, len(reverse)), clip, reverse
    extra = {"GRU": bool(node.get("linear_before_reset")), "LSTM": bool(node.get("input_forget"))}
    peepholes = (walk.optional(node.input(7)),) if node.op == "LSTM" else ()
    last = (extra[node.op],) if node.op in extra else ()
    result = walk.call(kind.function, x, w, r, b, lengths, *states, *peepholes, *options, *last)
    return [result[index] for index in range(1 + kind.states)]
