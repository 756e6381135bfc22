"""Recurrent layers: torch's gates in ONNX's order, and their weights laid out once, in the captured network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20 as op

from portnet.graph.parameters import LAYOUT_OPS, ROLE_MARK, mark_constant
from portnet.graph.passes.tidy import remove_unused
from portnet_torch.capturing import packed as packed  # defines the operations

__all__ = ["TABLE", "lay_out_weights"]

# ONNX's gates in torch's order: i o f c of i f g o, and z r h of r z n
_GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}


def _recurrent(
    kind: str,
    input: Any,
    states: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
    lengths: Any = None,
    **attributes: Any,
) -> tuple[Any, list[Any]]:
    """Return the sequence of the last layer and the final states of all layers, as ``nn.LSTM`` and its like do."""
    directions, each = 2 if bidirectional else 1, 4 if has_biases else 2
    if len(params) != num_layers * directions * each:
        raise NotImplementedError("a recurrent layer with projections (proj_size)")
    x = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
    lengths = None if lengths is None else op.Cast(lengths, to=ir.DataType.INT32)
    finals: list[list[Any]] = [[] for _ in states]
    for layer in range(num_layers):
        begin = layer * directions
        own = [params[(begin + d) * each : (begin + d + 1) * each] for d in range(directions)]
        weights = [_stacked([_ordered(group[i], kind) for group in own]) for i in range(2)]
        bias = _stacked([_joined([_ordered(b, kind) for b in group[2:]]) for group in own]) if has_biases else None
        initial = [_part(state, begin, begin + directions, num_layers) for state in states]
        results = getattr(op, kind)(
            x,
            *weights,
            bias,
            lengths,
            *initial,
            hidden_size=int(own[0][1].shape[1]),
            direction="bidirectional" if bidirectional else "forward",
            **attributes,
        )
        sequence, *last = results
        for index in range(len(states)):
            finals[index].append(last[index])
        x = op.Reshape(op.Transpose(sequence, perm=[0, 2, 1, 3]), _ints([0, 0, -1]))
        if dropout and layer < num_layers - 1:
            dropped = op.Dropout(x, op.Constant(value=ir.tensor(np.array(dropout, np.float32))))
            x = dropped[0] if isinstance(dropped, Sequence) else dropped
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    return x, [_joined(states) for states in finals]


def _ints(numbers: Sequence[int]) -> Any:
    return op.Constant(value=ir.tensor(np.array(numbers, np.int64)))


def _ordered(weight: Any, kind: str) -> Any:
    gates = _GATES[kind]
    if len(gates) == 1:
        return weight
    parts = op.Split(weight, axis=0, num_outputs=len(gates))
    return op.Concat(*(parts[gate] for gate in gates), axis=0)


def _stacked(values: Sequence[Any]) -> Any:
    return _joined([op.Unsqueeze(value, _ints([0])) for value in values])


def _joined(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else op.Concat(*values, axis=0)


def _part(state: Any, begin: int, end: int, layers: int) -> Any:
    return state if layers == 1 else op.Slice(state, _ints([begin]), _ints([end]), _ints([0]))


def _lstm(
    input: Any,
    hx: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, ...]:
    options = (has_biases, num_layers, dropout, bidirectional, batch_first)
    sequence, finals = _recurrent("LSTM", input, hx, params, *options)
    return (sequence, *finals)


def _gru(
    input: Any,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, ...]:
    options = (has_biases, num_layers, dropout, bidirectional, batch_first)
    sequence, finals = _recurrent("GRU", input, [hx], params, *options, linear_before_reset=1)
    return (sequence, *finals)


def _rnn(activation: str) -> Any:
    def translate(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Any, ...]:
        options = (has_biases, num_layers, dropout, bidirectional, batch_first)
        activations = [activation] * (2 if bidirectional else 1)
        sequence, finals = _recurrent("RNN", input, [hx], params, *options, activations=activations)
        return (sequence, *finals)

    return translate


def _known_lstm(input: Any, lengths: Any, states: Sequence[Any], params: Sequence[Any], *options: Any) -> Any:
    sequence, finals = _recurrent("LSTM", input, states, params, *options, lengths=lengths)
    return (sequence, *finals)


def _known_rnn(kind: str, input: Any, lengths: Any, states: Sequence[Any], params: Sequence[Any], *options: Any) -> Any:
    if kind == "gru":
        sequence, finals = _recurrent("GRU", input, states, params, *options, lengths=lengths, linear_before_reset=1)
    else:
        activations = [{"rnn_tanh": "Tanh", "rnn_relu": "Relu"}[kind]] * (1 + options[3])
        sequence, finals = _recurrent("RNN", input, states, params, *options, lengths=lengths, activations=activations)
    return (sequence, *finals)


TABLE: dict[Any, Any] = {
    torch.ops.portnet.lstm.default: _known_lstm,
    torch.ops.portnet.rnn.default: _known_rnn,
    torch.ops.aten.lstm.input: _lstm,
    torch.ops.aten.gru.input: _gru,
    torch.ops.aten.rnn_tanh.input: _rnn("Tanh"),
    torch.ops.aten.rnn_relu.input: _rnn("Relu"),
}


# ---- weights


def lay_out_weights(model: ir.Model, frozen: Collection[str] = ()) -> dict[str, list[str]]:
    """Give each recurrent node its weights as it reads them, and leave out initial states of zeros.

    A weight that is made of several of torch's bears the name of the first. A bias of states that is zeros and does
    not train becomes the zeros of a Pad.

    Args:
        model: in canonical form.
        frozen: torch's parameters that do not train.

    Returns:
        For each weight that was made, the names of torch's that it holds.
    """
    made: dict[str, list[str]] = {}
    for node in model.graph:
        if node.domain != "" or node.op_type not in _GATES:
            continue
        for index in (1, 2, 3):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and value.producer() is not None:
                made |= _compute(model, node, index, frozen)
        for index in (5, 6):
            if index < len(node.inputs) and _is_zero(node.inputs[index]):
                node.replace_input_with(index, None)
        count = len(node.inputs)
        while count > 3 and node.inputs[count - 1] is None:
            count -= 1
        node.resize_inputs(count)
    remove_unused(model)
    return made


def _compute(model: ir.Model, node: ir.Node, index: int, frozen: Collection[str]) -> dict[str, list[str]]:
    """Compute one weight, if it is torch's parameters moved about, which nothing else reads."""
    value = node.inputs[index]
    assert value is not None
    nodes, leaves = _upstream(value)
    learned = [leaf for leaf in leaves if leaf.metadata_props.get(ROLE_MARK, "CONSTANT") != "CONSTANT"]
    inside = all(user in nodes for leaf in learned for user, _ in leaf.uses())
    if not learned or not inside or any(leaf.const_value is None for leaf in leaves):
        return {}
    arrays = {leaf: leaf.const_value.numpy() for leaf in leaves if leaf.const_value is not None}
    for step in model.graph:
        if step in nodes:
            arrays.update(zip(step.outputs, _run(step, model.opset_imports[""], arrays), strict=True))
    first = learned[0]
    still = [leaf for leaf in learned if index == 3 and leaf.name in frozen and _is_zeros(leaf)]
    halved = len(still) * 2 == len(learned) and still == learned[1::2] and first.name not in frozen
    name, mark = first.name or "", first.metadata_props[ROLE_MARK]
    names = [leaf.name or "" for leaf in learned]
    for leaf in learned:
        model.graph.initializers.pop(leaf.name or "")
    array = np.ascontiguousarray(np.split(arrays[value], 2, axis=1)[0] if halved else arrays[value])
    new = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(value.dtype or ir.DataType.FLOAT))
    new.const_value = ir.Tensor(array, name=name)
    new.metadata_props[ROLE_MARK] = mark
    first.name = f"{name}/torch"
    model.graph.register_initializer(new)
    node.replace_input_with(index, _padded(model, node, new) if halved else new)
    return {name: names[::2] if halved else names}


def _is_zeros(leaf: ir.Value) -> bool:
    return leaf.const_value is not None and not leaf.const_value.numpy().any()


def _padded(model: ir.Model, node: ir.Node, bias: ir.Value) -> ir.Value:
    """Add a Pad before a node, which adds zeros for the bias of its states to that of its input."""
    assert bias.shape is not None
    array = np.array([0, 0, 0, bias.shape[1]], np.int64)
    ends = ir.Value(name=f"{bias.name}/ends", shape=ir.Shape([4]), type=ir.TensorType(ir.DataType.INT64))
    ends.const_value = ir.Tensor(array, name=ends.name)
    mark_constant(ends)
    model.graph.register_initializer(ends)
    output = ir.Value(name=f"{bias.name}/biases", shape=ir.Shape([bias.shape[0], 2 * array[3]]), type=bias.type)
    pad = ir.node("Pad", [bias, ends], outputs=[output], name=output.name)
    model.graph.insert_before(node, pad)
    return output


def _upstream(value: ir.Value) -> tuple[set[ir.Node], list[ir.Value]]:
    """Return the nodes that a value comes from and what they read, in order; no leaf is computed."""
    nodes: set[ir.Node] = set()
    leaves: dict[ir.Value, None] = {}
    todo = [value]
    while todo:
        current = todo.pop()
        producer = current.producer()
        if producer is None:
            leaves[current] = None
        elif producer not in nodes and producer.op_type in LAYOUT_OPS:
            nodes.add(producer)
            todo += [source for source in reversed(producer.inputs) if source is not None]
        elif producer not in nodes:
            leaves[current] = None
    return nodes, list(leaves)


def _run(node: ir.Node, opset: int, arrays: dict[ir.Value, np.ndarray]) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    feeds = {value.name: arrays[value] for value in node.inputs if value is not None}
    results: Any = ReferenceEvaluator(ir.serde.serialize_node(node), opsets={"": opset}).run(None, feeds)
    return [np.asarray(result) for result in results]


def _is_zero(value: ir.Value | None) -> bool:
    """Whether a tensor of any size holds nothing but zeros."""
    if value is None:
        return True
    if value.const_value is not None and value.is_initializer():
        learned = value.metadata_props.get(ROLE_MARK, "CONSTANT") != "CONSTANT"
        return not learned and not np.any(value.const_value.numpy())
    producer = value.producer()
    moves = producer is not None and producer.op_type in LAYOUT_OPS - {"Concat"}
    return moves and _is_zero(producer.inputs[0])  # type: ignore[union-attr]
