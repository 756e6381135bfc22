"""LSTM, GRU and SimpleRNN, one way and both ways, and layers applied to each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.config import parse_layer
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.activation import activation_name
from portnet.formats.keras.layers.masking import Counted
from portnet.formats.keras.masks import pass_on
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.options import Options
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot, snake_case
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_ACTIVATIONS = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "hard_sigmoid": "HardSigmoid",
    "softsign": "Softsign",
    "softplus": "Softplus",
    "elu": "Elu",
}
_END = (1 << 63) - 1


@dataclass(frozen=True)
class _Kind:
    """A kind of recurrent layer.

    Attributes:
        op: ONNX's op.
        gates: ONNX's gates, as places among Keras's: i, f, c, o of an LSTM become i, o, f, c.
        activations: what each of ONNX's activations is called in Keras's configuration.
        states: how many states it carries.
    """

    op: str
    gates: tuple[int, ...]
    activations: tuple[str, ...]
    states: int


_LSTM = _Kind("LSTM", (0, 3, 1, 2), ("recurrent_activation", "activation", "activation"), 2)
_GRU = _Kind("GRU", (0, 1, 2), ("recurrent_activation", "activation"), 1)
_RNN = _Kind("RNN", (0,), ("activation",), 1)
_KINDS = {"LSTM": _LSTM, "GRU": _GRU, "SimpleRNN": _RNN}
_CELLS = {"LSTMCell": _LSTM, "GRUCell": _GRU, "SimpleRNNCell": _RNN}


@dataclass(frozen=True)
class _Way:
    """One direction: kind, configuration, and names of its arrays."""

    kind: _Kind
    options: Options
    cell: Options
    group: str
    name: str

    @property
    def units(self) -> int:
        return self.cell.integer("units")


def _way(node: LayerNode, kind: str, values: Mapping[str, Any], group: str, name: str) -> _Way:
    if not isinstance(values, Mapping):
        raise node.options.wrong("layer", "a recurrent layer with its configuration")
    options = Options(values, node.name)
    for key in ("stateful", "time_major"):
        options.refuse(key)
    group = f"{group}/cell" if group else "cell"
    if kind != "RNN":
        if kind not in _KINDS:
            raise UnsupportedError(f"layer {kind}")
        return _Way(_KINDS[kind], options, options, group, name)
    cell = options.get("cell")
    if not isinstance(cell, Mapping) or cell.get("class_name") not in _CELLS:
        raise UnsupportedError(f"cell {cell.get('class_name') if isinstance(cell, Mapping) else cell!r}")
    inner = cell.get("config") or {}
    if not isinstance(inner, Mapping):
        raise options.wrong("cell", "a cell with its configuration")
    return _Way(_CELLS[cell["class_name"]], options, Options(inner, node.name), group, name)


@layer("LSTM", "GRU", "SimpleRNN", "RNN")
def recurrent(walk: Walk, node: LayerNode) -> list[Held]:
    """One way; the sequence stays time first until somebody needs it otherwise."""
    cell = node.options.get("cell") if node.kind == "RNN" else None
    if isinstance(cell, Mapping) and cell.get("class_name") == "StackedRNNCells":
        return _stacked(walk, node, cell)
    way = _way(node, node.kind, node.options.values, "", "")
    back = way.options.flag("go_backwards")
    y, states = _run(walk, node, [way], "reverse" if back else "forward")
    results = [_last(walk, states[0])]
    if way.options.flag("return_sequences"):
        sequence = walk.emit("Squeeze", [y, walk.ints([1], "axes")], (1, 0, 2), "sequence")
        if back and node.mask is not None:
            raise UnsupportedError("go_backwards, return_sequences and a mask")
        results = [_flipped(walk, sequence) if back else pass_on(walk, node, sequence)]
    if way.options.flag("return_state"):
        results += [_last(walk, state) for state in states]
    return results


def _stacked(walk: Walk, node: LayerNode, cell: Mapping[str, Any]) -> list[Held]:
    """Write cells that stand on one another as a layer each."""
    options = node.options
    for key in ("go_backwards", "stateful", "time_major"):
        options.refuse(key)
    if len(node.inputs) != 1:
        raise UnsupportedError("stacked cells with first states")
    ways, counts = list[_Way](), dict[str, int]()
    for inner in (cell.get("config") or {}).get("cells") or []:
        kind = str(inner.get("class_name")) if isinstance(inner, Mapping) else ""
        if kind not in _CELLS or not isinstance(inner.get("config"), Mapping):
            raise UnsupportedError(f"cell {kind or inner!r}")
        word = snake_case(kind)
        counts[word] = counts.get(word, -1) + 1
        group = f"cell/cells/{word}" + (f"_{counts[word]}" if counts[word] else "")
        ways.append(_Way(_CELLS[kind], options, Options(inner["config"], node.name), group, f"{len(ways)}/"))
    if not ways:
        raise options.wrong("cell", "cells")
    x = walk.arranged(node.input, (1, 0, 2))
    if x.rank != 3:
        raise ModelError(f"layer {node.name!r}: got an input of {x.rank} axes, expected 3")
    widths = [x.size(2, f"layer {node.name!r}"), *(way.units for way in ways)]
    pairs = zip(ways, widths, strict=False)
    found = walk.weights(node, *(slot for way, width in pairs for slot in _slots(walk, way, width)))
    states: list[ir.Value] = []
    for way in ways:
        # what stands on another cell leaves the same steps out
        y, own = _written(walk, node, [way], "forward", x, [], found, way.name, spread=way is not ways[-1])
        states += own
        x = walk.emit("Squeeze", [y, walk.ints([1], "axes")], (1, 0, 2), f"{way.name}sequence")
    results = [
        pass_on(walk, node, x) if options.flag("return_sequences") else _last(walk, states[-ways[-1].kind.states])
    ]
    return results + ([_last(walk, state) for state in states] if options.flag("return_state") else [])


def _last(walk: Walk, state: ir.Value) -> Held:
    return walk.emit("Squeeze", [state, walk.ints([0], "axes")], identity(2), "last")


def _flipped(walk: Walk, x: Held) -> Held:
    """Keras gives the steps in the order in which they were taken."""
    inputs = [walk.ints([n], what) for n, what in ((-1, "starts"), (-_END, "ends"), (0, "axes"), (-1, "steps"))]
    return walk.same("Slice", x, *inputs)


@layer("Bidirectional")
def bidirectional(walk: Walk, node: LayerNode) -> list[Held] | Held:
    """Both ways at once, merged as ``merge_mode`` says."""
    inner = node.options.get("layer", {})
    backward = node.options.get("backward_layer") or inner
    if not isinstance(inner, Mapping) or not isinstance(backward, Mapping):
        raise node.options.wrong("layer", "a recurrent layer")
    ways = [
        _way(node, str(each.get("class_name")), each.get("config") or {}, f"{name}_layer", f"{name}/")
        for each, name in ((inner, "forward"), (backward, "backward"))
    ]
    mode = node.options.values.get("merge_mode", "concat")
    if mode not in ("concat", "sum", "ave", "mul"):
        raise UnsupportedError(f"merge_mode={mode!r}")
    if ways[0].kind is not ways[1].kind or ways[0].units != ways[1].units:
        return _one_by_one(walk, node, ways, mode)
    y, states = _run(walk, node, ways, "bidirectional")
    if ways[0].options.flag("return_sequences"):
        merged = pass_on(walk, node, Held(_merged(walk, y, mode, 1, ways[0].units), (1, 0, 2)))
    else:
        merged = Held.plain(_merged(walk, states[0], mode, 0, ways[0].units))
    if not ways[0].options.flag("return_state"):
        return merged
    parts = [walk.writer.nodes("Split", [s], f"{node.name}/states", count=2, axis=0, num_outputs=2) for s in states]
    return [merged, *(_last(walk, part[way]) for way in (0, 1) for part in parts)]


def _one_by_one(walk: Walk, node: LayerNode, ways: list[_Way], mode: str) -> list[Held]:
    """Write two ways that are of different kinds or sizes as a layer each."""
    first, *initial = node.inputs
    x = walk.arranged(first, (1, 0, 2))
    width = x.size(2, f"layer {node.name!r}")
    found = walk.weights(node, *(slot for way in ways for slot in _slots(walk, way, width)))
    given = {"forward": initial[: ways[0].kind.states], "reverse": initial[ways[0].kind.states :]}
    results, states = [], []
    for way, direction in zip(ways, given, strict=True):
        y, own = _written(walk, node, [way], direction, x, given[direction], found, way.name)
        whole = way.options.flag("return_sequences")
        axes = walk.ints([1], "axes")
        results.append(walk.emit("Squeeze", [y, axes], (1, 0, 2), "sequence") if whole else _last(walk, own[0]))
        states += [_last(walk, state) for state in own]
    if len({result.order for result in results}) != 1:
        raise UnsupportedError("one way with a sequence and one without")
    one, other = results
    if mode == "concat":
        merged = walk.emit("Concat", [one.value, other.value], one.order, axis=one.rank - 1)
    else:
        merged = walk.same("Mul" if mode == "mul" else "Add", one, other.value)
        merged = walk.same("Mul", merged, walk.number(0.5, "half")) if mode == "ave" else merged
    merged = pass_on(walk, node, merged) if merged.rank == 3 else merged
    return [merged, *(states if ways[0].options.flag("return_state") else [])]


def _merged(walk: Walk, y: ir.Value, mode: str, axis: int, units: int) -> ir.Value:
    """Return both ways, which lie along ``axis``, as one."""
    if mode != "concat":
        op = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}[mode]
        return walk.writer.node(op, [y, walk.ints([axis], "axes")], f"{walk.here}/{mode}", keepdims=0)
    perm = (1, 0, 2) if axis == 0 else (0, 2, 1, 3)
    moved = walk.writer.node("Transpose", [y], f"{walk.here}/transpose", perm=perm)
    shape = walk.ints([*[0] * (len(perm) - 2), 2 * units], "shape")
    return walk.writer.node("Reshape", [moved, shape], f"{walk.here}/concat")


def _run(walk: Walk, node: LayerNode, ways: list[_Way], direction: str) -> tuple[ir.Value, list[ir.Value]]:
    """Return the sequence (steps, ways, batch, units) and the last states (ways, batch, units)."""
    first, *initial = node.inputs
    if first.rank != 3:
        raise ModelError(f"layer {node.name!r}: got an input of {first.rank} axes, expected 3")
    x = walk.arranged(first, (1, 0, 2))
    width = x.size(2, f"layer {node.name!r}")
    found = walk.weights(node, *(slot for way in ways for slot in _slots(walk, way, width)))
    return _written(walk, node, ways, direction, x, initial, found)


def _written(
    walk: Walk,
    node: LayerNode,
    ways: list[_Way],
    direction: str,
    x: Held,
    initial: list[Held],
    found: dict[str, np.ndarray],
    cell: str = "",
    spread: bool = False,
) -> tuple[ir.Value, list[ir.Value]]:
    """Write the op over a sequence that lies (steps, batch, features); ``cell`` is put before the arrays' names.

    Where steps are left out, the sequence that comes out has them if somebody reads it: ``spread`` says that one does.
    """
    kind, units = ways[0].kind, ways[0].units
    arrays = [_arrays(found, way) for way in ways]
    counted = None if node.mask is None else Counted(walk, node.mask)
    inputs: list[ir.Value | None] = [x.value if counted is None else counted.front(x).value]
    for place, name in enumerate(("kernel", "recurrent_kernel", "bias")):
        given = [each[place] for each in arrays]
        stacked = [array for array in given if array is not None]
        named = f"{cell}{name}"
        inputs.append(walk.parameter(node, named, np.stack(stacked)) if len(stacked) == len(ways) else None)
    if inputs[-1] is not None and not _double(walk, ways[0]):
        # ONNX has a bias for the input and one for the state, which is none of Keras's: zeros that do not train
        ends = walk.ints([0, 0, 0, len(kind.gates) * units], "ends")
        inputs[-1] = walk.writer.node("Pad", [inputs[-1], ends], f"{walk.here}/biases")
    inputs += [None if counted is None else counted.lengths, *_initial(walk, initial, kind, len(ways))]
    while inputs[-1] is None:
        inputs.pop()
    values = walk.writer.nodes(
        kind.op,
        inputs,
        f"{node.name}/{cell}{kind.op.lower()}",
        count=1 + kind.states,
        hidden_size=units,
        direction=direction if direction != "forward" else None,
        linear_before_reset=int(_double(walk, ways[0])) if kind is _GRU else None,
        **_activations(walk, ways),
    )
    y, *states = values
    if counted is not None and (spread or ways[0].options.flag("return_sequences")):
        backwards = [False, True] if direction == "bidirectional" else [direction == "reverse"]
        y = counted.back(y, backwards, zeros=ways[0].options.flag("zero_output_for_mask"))
    return y, states


def _initial(walk: Walk, given: list[Held], kind: _Kind, ways: int) -> list[ir.Value | None]:
    """Return first states (ways, batch, units); Keras gives those of one way after the other."""
    if not given:
        return [None] * kind.states
    if len(given) != kind.states * ways:
        raise UnsupportedError(f"{len(given)} first states")
    axes = walk.ints([0], "axes")
    longer = [walk.writer.node("Unsqueeze", [walk.plain(x).value, axes], f"{walk.here}/state") for x in given]
    found: list[ir.Value | None] = []
    for state in range(kind.states):
        parts = longer[state :: kind.states]
        found.append(parts[0] if ways == 1 else walk.writer.node("Concat", parts, f"{walk.here}/states", axis=0))
    return found


def _double(walk: Walk, way: _Way) -> bool:
    """Whether a GRU has a bias for its state too, and resets behind the product."""
    return way.kind is _GRU and way.cell.flag("reset_after", not walk.keras2)


def _slots(walk: Walk, way: _Way, width: int) -> list[Slot]:
    units, columns = way.units, len(way.kind.gates) * way.units
    slots = [
        Slot(f"{way.name}kernel", (width, columns), "random", way.group),
        Slot(f"{way.name}recurrent_kernel", (units, columns), "random", way.group, 1),
    ]
    if way.cell.flag("use_bias", True):
        shape = (2, columns) if _double(walk, way) else (columns,)
        slots.append(Slot(f"{way.name}bias", shape, group=way.group, index=2))
    return slots


def _arrays(found: dict[str, np.ndarray], way: _Way) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return ONNX's W (gates · units, inputs), R (gates · units, units), B (2 · gates · units) or its first half."""
    kernel, states = (_gates(found[f"{way.name}{name}"], way.kind).T for name in ("kernel", "recurrent_kernel"))
    bias = found.get(f"{way.name}bias")
    if bias is None:
        return kernel, states, None
    return kernel, states, _gates(bias, way.kind).reshape(-1)


def _gates(array: np.ndarray, kind: _Kind) -> np.ndarray:
    """Return an array whose last axis, (gates · units), is in ONNX's order of gates."""
    parts = np.split(array, len(kind.gates), axis=-1)
    return np.concatenate([parts[gate] for gate in kind.gates], axis=-1)


def _activations(walk: Walk, ways: list[_Way]) -> dict[str, Any]:
    names, alphas, betas = [], [], []
    for way in ways:
        for key in way.kind.activations:
            default = "tanh" if key == "activation" else "hard_sigmoid" if walk.keras2 else "sigmoid"
            name = activation_name(way.cell.get(key, default))
            if name not in _ACTIVATIONS:
                raise UnsupportedError(f"{key} {name!r}")
            names.append(_ACTIVATIONS[name])
            if name == "hard_sigmoid":
                alphas.append(0.2 if walk.keras2 else 1 / 6)
                betas.append(0.5)
            elif name == "elu":
                alphas.append(1.0)
    usual = {"Tanh", "Sigmoid"} >= set(names)
    defaults = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
    if usual and names == defaults[ways[0].kind.op] * len(ways):
        return {}
    return {"activations": names, "activation_alpha": alphas or None, "activation_beta": betas or None}


@layer("TimeDistributed")
def time_distributed(walk: Walk, node: LayerNode) -> Held:
    """A layer, or a whole network, applied to each step: steps and batch become one axis for it."""
    inner = parse_layer(node.options.get("layer"))
    x = node.input
    if x.rank < 3 or node.kwargs.get("mask") is not None:
        raise UnsupportedError(f"{x.rank} axes")
    steps = x.shape[1]
    behind = tuple(axis for axis in x.order if axis > 1)
    x = walk.arranged(x, (0, 1, *behind))
    sizes = [x.shape[axis] for axis in behind]
    if None in sizes:
        raise UnsupportedError("free sizes in a step")
    shape = walk.ints([-1, *(size or 0 for size in sizes)], "shape")
    merged = walk.emit("Reshape", [x.value, shape], (0, *(axis - 1 for axis in behind)), "steps")
    part = replace(
        node,
        kind=inner.kind,
        options=Options(inner.options, node.name),
        args=[merged],
        kwargs={},
        group=f"{node.group}/layer" if node.group else "layer",
    )
    (result, *more) = walk.inside(part, inner.network)
    if more:
        raise UnsupportedError("several outputs of a step")
    result = walk.arranged(result, result.order) if result.packing is None else walk.plain(result)
    if result.order[0] != 0:
        result = walk.plain(result)
    after = [result.shape[axis] for axis in result.order[1:]]
    if None in after:
        raise UnsupportedError("free sizes in a step's result")
    if steps is None and x.shape[0] is None:
        return _split_steps(walk, x, result, after)
    target = walk.ints([-1, steps or -1, *(size or 0 for size in after)], "target")
    return walk.emit("Reshape", [result.value, target], (0, 1, *(axis + 1 for axis in result.order[1:])), "restored")


def _split_steps(walk: Walk, x: Held, result: Held, after: list[int | None]) -> Held:
    """Restore batch and steps that are both free, from the shape of what came in."""
    count = walk.emit("Shape", [x.value], identity(1), "sizes", start=0, end=2)
    rest = walk.ints([size or 0 for size in after], "rest")
    target = walk.emit("Concat", [count.value, rest], identity(1), "target", axis=0)
    order = (0, 1, *(axis + 1 for axis in result.order[1:]))
    value = walk.writer.node("Reshape", [result.value, target.value], f"{walk.here}/restored")
    value.shape = ir.Shape([None, None, *after])
    return Held(value, order)
