"""ConvLSTM: an LSTM over maps, whose products are convolutions (Shi et al. 2015)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.held import Held, channels_first
from portnet.formats.keras.layers.activation import activate
from portnet.formats.keras.layers.convolution import padding_of
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

# ONNX has no op for it: each step is written out
_MAX_STEPS = 64


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def conv_lstm(walk: Walk, node: LayerNode) -> list[Held]:
    """Write each step; all of them share the kernels."""
    options, rank = node.options, int(node.kind[-2])
    for key in ("stateful", "go_backwards"):
        options.refuse(key)
    if node.mask is not None or len(node.inputs) != 1 or not walk.channels_last(node):
        raise UnsupportedError("a mask, first states or channels first")
    if node.input.rank != rank + 3:
        raise ModelError(f"layer {node.name!r}: got an input of {node.input.rank} axes, expected {rank + 3}")
    filters, window = options.integer("filters"), options.integers("kernel_size", rank)
    strides, dilations = options.integers("strides", rank, 1), options.integers("dilation_rate", rank, 1)
    sequence = (0, 1, rank + 2, *range(2, rank + 2))
    x = walk.arranged(node.input, sequence)
    sizes = [x.size(axis, f"layer {node.name!r}") for axis in (1, *sequence[2:])]
    steps, incoming = sizes[:2]
    if steps > _MAX_STEPS:
        raise UnsupportedError(f"{steps} steps, of which each is written out: at most {_MAX_STEPS}")
    found = walk.weights(
        node,
        Slot("kernel", (*window, incoming, 4 * filters), "random", "cell"),
        Slot("recurrent_kernel", (*window, filters, 4 * filters), "random", "cell", 1),
        Slot("bias", (4 * filters,), group="cell", index=2) if options.flag("use_bias", True) else None,
    )
    order = (rank + 1, rank, *range(rank))
    kernel, recurrent = (
        walk.parameter(node, name, np.ascontiguousarray(found[name].transpose(order)))
        for name in ("kernel", "recurrent_kernel")
    )
    bias = [walk.parameter(node, "bias", found["bias"])] if "bias" in found else []
    merged = walk.emit("Reshape", [x.value, walk.ints([-1, *sizes[1:]], "merged")], channels_first(rank + 2), "merge")
    attributes = {"kernel_shape": window, "strides": strides, "dilations": dilations}
    pads = padding_of(node, merged, window, strides, dilations)
    gates = walk.emit("Conv", [merged.value, kernel, *bias], merged.order, "input", **attributes, **pads)
    after = [gates.size(axis, f"layer {node.name!r}") for axis in gates.order[1:]]
    parted = walk.emit("Reshape", [gates.value, walk.ints([-1, steps, *after], "parted")], sequence, "part")
    parts = walk.writer.nodes("Split", [parted.value], f"{node.name}/steps", count=steps, axis=1, num_outputs=steps)
    begins = [(n - 1) // 2 for n in window]
    same = {"kernel_shape": window, "pads": begins + [n - 1 - begin for n, begin in zip(window, begins, strict=True)]}
    h: Held | None = None
    c: Held | None = None
    results = []
    for number, part in enumerate(parts):
        squeezed = walk.writer.node("Squeeze", [part, walk.ints([1], "step")], f"{walk.here}/{number}/input")
        total = Held(squeezed, merged.order)
        if h is not None:
            total = walk.same(
                "Add", total, walk.emit("Conv", [h.value, recurrent], h.order, f"{number}/state", **same).value
            )
        h, c = _step(walk, node, total, c, f"{walk.here}/{number}")
        results.append(h)
    assert h is not None
    assert c is not None
    result = _stacked(walk, results, sequence) if options.flag("return_sequences") else h
    return [result, h, c] if options.flag("return_state") else [result]


def _step(walk: Walk, node: LayerNode, total: Held, c: Held | None, name: str) -> tuple[Held, Held]:
    """Return the output and the state of a step from its gates: input, forget, state, output."""
    inner, outer = node.options.get("activation", "tanh"), node.options.get("recurrent_activation", "sigmoid")
    parts = walk.writer.nodes("Split", [total.value], f"{name}/gates", count=4, axis=1, num_outputs=4)
    i, f, new, o = (Held(part, total.order) for part in parts)
    state = walk.same("Mul", activate(walk, node, i, outer), activate(walk, node, new, inner).value)
    if c is not None:
        state = walk.same("Add", state, walk.same("Mul", activate(walk, node, f, outer), c.value).value)
    return walk.same("Mul", activate(walk, node, o, outer), activate(walk, node, state, inner).value), state


def _stacked(walk: Walk, results: list[Held], order: tuple[int, ...]) -> Held:
    axes = walk.ints([1], "steps")
    longer: list[ir.Value] = [walk.emit("Unsqueeze", [x.value, axes], order, "longer").value for x in results]
    return walk.emit("Concat", longer, order, "sequence", axis=1)
