"""`translate`: from a symbol and its arrays to a `Model`, one builder an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from portnet.errors import InputError, ModelError, WeightsError
from portnet.formats.captured import Captured, Missing
from portnet.formats.mxnet.attributes import Attributes
from portnet.formats.mxnet.heads import LABELLED, LOSSES, before, computed_with_labels
from portnet.formats.mxnet.hosted import hosted
from portnet.formats.mxnet.layer import DTYPES, TABLE, Layer, Refused
from portnet.formats.mxnet.ops import load as load_ops
from portnet.formats.mxnet.symbol import Entry, Node, Symbol
from portnet.formats.writer import GraphWriter
from portnet.graph.metadata import Metadata
from portnet.graph.parameters import mark_constant
from portnet.weights.init import Init, constant

__all__ = ["Translation", "Walk", "translate"]

Shape = Sequence[int | None]

# what random weights may take where a network came without any, in elements
_MAX_DRAWN = 1 << 29
_WIDTH_LIMIT = 1 << 24
BATCH = "N"


@dataclass(frozen=True)
class Translation:
    """A network that was MXNet's.

    Attributes:
        captured: the network, and what to know of it.
        inputs: the variables that are the network's inputs, by the model's names.
        places: for each tensor of the model that MXNet has too, which output of which node it is.
        labels: variables that only training reads.
        heads: which of the symbol's outputs the model has, by their place.
        drawn: arrays that were made up, by variable, where the network came without weights.
    """

    captured: Captured
    inputs: Mapping[str, str]
    places: Mapping[str, Entry]
    labels: tuple[str, ...] = ()
    heads: tuple[int, ...] = ()
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)


def translate(
    symbol: Symbol,
    arrays: Mapping[str, np.ndarray] | None,
    *,
    source: str,
    shapes: Mapping[str, Shape] | None = None,
    input_shape: Shape | None = None,
    dtypes: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    fixed: frozenset[str] = frozenset(),
    dynamic_batch: bool = True,
    metadata: Metadata | None = None,
    way: str = "read from MXNet's symbol and params",
) -> Translation:
    """Return a symbol of MXNet as a model.

    Args:
        symbol: the graph.
        arrays: parameters and auxiliary states by variable; None for random ones, where the architecture is all
            there is.
        source: what the network is called in messages, and the model's name.
        shapes: of the inputs, by variable, in MXNet's layout.
        input_shape: of the only input, in place of ``shapes``.
        dtypes: element types of the inputs, by variable, where they are not what the symbol says.
        names: what a variable is called in the model, where not by its own name.
        fixed: variables that no training moves.
        dynamic_batch: whether axis 0 of the inputs stays free.
        metadata: what travels with the model.
        way: how the network was read.

    Raises:
        UnsupportedError: names all layers that have no translation.
        InputError: an input whose shape nobody tells.
        WeightsError: arrays that are missing or do not fit.
        ModelError: a graph that contradicts itself.
    """
    load_ops()
    walk = Walk(symbol, arrays, source, _Given(shapes or {}, input_shape, dtypes or {}), names or {}, fixed)
    walk.dynamic_batch = dynamic_batch
    outputs = walk.run()
    model = walk.writer.finish(outputs, metadata=metadata)
    captured = Captured(model, way, tuple(walk.notes))
    return Translation(captured, walk.inputs, walk.places, walk.labels, walk.heads, walk.drawn)


@dataclass(frozen=True)
class _Given:
    """What the caller says of the inputs."""

    shapes: Mapping[str, Shape]
    only: Shape | None
    dtypes: Mapping[str, str]


@dataclass
class Walk:
    """The walk over a symbol's nodes, in order.

    Attributes:
        symbol: the graph.
        writer: where it goes.
        notes: what the user must know.
        inputs: the variable of each of the model's inputs.
        places: where in the symbol each tensor of the model is.
    """

    symbol: Symbol
    arrays: Mapping[str, np.ndarray] | None
    source: str
    given: _Given
    names: Mapping[str, str]
    fixed_names: frozenset[str]
    dynamic_batch: bool = True
    notes: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    places: dict[str, Entry] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.writer = GraphWriter(self.source)
        self._missing = Missing(self.source)
        self._values: dict[Entry, ir.Value] = {}
        self._lost: set[int] = set()
        self.heads: tuple[int, ...] = ()
        self.drawn: dict[str, np.ndarray] = {}
        self._drawn = 0

    def run(self) -> list[ir.Value]:
        """Write every node that an output depends on; return the outputs."""
        left_out = computed_with_labels(self.symbol, self.arrays or ())
        for head in left_out:
            self.note(f"output {self.symbol.nodes[head.node].name!r} is computed with labels, for training: left out")
        kept = [(place, head) for place, head in enumerate(self.symbol.heads) if head not in left_out]
        self.heads = tuple(place for place, _ in kept)
        self.symbol = replace(self.symbol, heads=tuple(head for _, head in kept))
        needed = before(self.symbol, self.symbol.heads, labels=False)
        self._leave_out_labels(needed)
        for index, node in enumerate(self.symbol.nodes):
            if index in needed and not node.is_variable:
                self._layer(index, node)
        outputs = self._outputs()
        if self.arrays is None:
            self.note("it came without weights; its parameters are random")
        else:
            self._note_unread(needed)
        return outputs

    # ---- for layers

    def value(self, entry: Entry) -> ir.Value:
        """Return the tensor that an entry is."""
        if entry in self._values:
            return self._values[entry]
        node = self.symbol.nodes[entry.node]
        if not node.is_variable:
            raise Refused(f"reads output {entry.output} of {node.name!r} ({node.op}), which inference does not compute")
        self._values[entry] = value = self._variable(node)
        return value

    def parameter(
        self,
        entry: Entry,
        shape: tuple[int, ...],
        init: Init,
        arrange: Callable[[np.ndarray], np.ndarray] | None,
    ) -> ir.Value:
        """Return a learned array of a known shape."""
        node = self.symbol.nodes[entry.node]
        if not node.is_variable:
            # a parameter that other layers compute
            value = self.value(entry)
            if arrange is not None:
                raise Refused(f"its parameter is computed by {node.name!r}")
            return value
        name = self.names.get(node.name, node.name)
        array = self._draw(node.name, shape, init) if self.arrays is None else self.arrays.get(node.name)
        if array is None:
            raise WeightsError(f"{self.source}: no array for {node.name!r}, expected one of shape {shape}")
        if array.shape != shape and not (array.size == math.prod(shape) == 1):
            raise WeightsError(f"{self.source}: {name!r} got shape {array.shape}, expected {shape}")
        array = array.reshape(shape)
        value = self.writer.weight(name, array if arrange is None else arrange(array))
        if node.name in self.fixed_names:
            mark_constant(value)
        return value

    def fixed(self, entry: Entry, width: int, fill: float) -> ir.Value:
        """Return a vector of one number under a variable's name, marked as no parameter."""
        node = self.symbol.nodes[entry.node]
        if width > _WIDTH_LIMIT:
            raise ModelError(f"{self.source}: {node.name!r} got a width of {width}, expected at most {_WIDTH_LIMIT}")
        if self.arrays is None:
            self._draw(node.name, (width,), constant(fill))
        value = self.writer.weight(self.names.get(node.name, node.name), np.full(width, fill, np.float32))
        mark_constant(value)
        return value

    def array(self, entry: Entry) -> np.ndarray | None:
        """Return what is known of an entry before the network runs."""
        return hosted(self.symbol, self.arrays or {}, entry)

    def variable(self, entry: Entry) -> str | None:
        """Return a variable's name in the model."""
        node = self.symbol.nodes[entry.node]
        return self.names.get(node.name, node.name) if node.is_variable else None

    def sources(self, entry: Entry) -> list[str]:
        """Return the variables that an entry depends on, by the model's names."""
        found = (self.symbol.nodes[index] for index in sorted(before(self.symbol, [entry])))
        return [self.names.get(node.name, node.name) for node in found if node.is_variable]

    def note(self, sentence: str) -> None:
        """Keep a note, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    # ---- the walk

    def _leave_out_labels(self, needed: set[int]) -> None:
        heads = [node for index, node in enumerate(self.symbol.nodes) if index in needed and node.op in LABELLED]
        left = (index for node in heads for index in sorted(before(self.symbol, node.inputs[1:])))
        self.labels = tuple(
            dict.fromkeys(
                self.symbol.nodes[i].name for i in left if i not in needed and self.symbol.nodes[i].is_variable
            )
        )
        for node in heads:
            self.note(f"{node.op} {node.name!r} is a head for training: {LABELLED[node.op]}")
        for index, node in enumerate(self.symbol.nodes):
            if index in needed and node.op in LOSSES:
                self.note(f"{node.op} {node.name!r} marks a loss for training: it passes its input on")

    def _layer(self, index: int, node: Node) -> None:
        builder = TABLE.get(node.op)
        if builder is None:
            self._missing.add(_kind(node), node.name)
            self._lost.add(index)
            return
        inputs = node.inputs[:1] if node.op in LABELLED else node.inputs
        if any(entry.node in self._lost for entry in inputs):
            self._lost.add(index)
            return
        layer = Layer(self, node)
        if node.op == "_zeros" and layer.attributes.integers("shape").count(0) > 1:
            # of sizes that Gluon did not know: what recurrent layers start from, who read it as zeros
            return
        try:
            result = builder(layer)
            unread = layer.attributes.unread()
            if unread:
                raise Refused(", ".join(f"{key}={node.attributes[key][:40]}" for key in unread))
        except Refused as refused:
            self._missing.add(f"{node.op}: {refused}", node.name)
            self._lost.add(index)
            return
        for number, value in enumerate([result] if isinstance(result, ir.Value) else result):
            if value.shape is None:
                raise ModelError(
                    f"{self.source}: layer {node.name!r} ({node.op}) does not fit its inputs: {_shapes(layer)}"
                )
            self._values[Entry(index, number)] = value
            self.places.setdefault(value.name or "", Entry(index, number))

    def _outputs(self) -> list[ir.Value]:
        found: list[ir.Value] = []
        for head in self.symbol.heads:
            if head.node not in self._lost:
                try:
                    found.append(self.value(head))
                except Refused as refused:
                    self._missing.add(f"an output {refused}", self.symbol.nodes[head.node].name)
        self._missing.raise_if_any()
        return found

    def _variable(self, node: Node) -> ir.Value:
        name = self.names.get(node.name, node.name)
        array = None if self.arrays is None else self.arrays.get(node.name)
        if array is None:
            return self._input(node, name)
        value = self.writer.weight(name, array)
        if node.name in self.fixed_names:
            mark_constant(value)
        return value

    def _input(self, node: Node, name: str) -> ir.Value:
        shape = self._input_shape(node)
        dtype = self.given.dtypes.get(node.name) or DTYPES.get(node.attributes.get("__dtype__", "0"), "float32")
        free: list[int | str | None] = [size or None for size in shape]
        if shape and (self.dynamic_batch or not shape[0]):
            free[0] = BATCH
        value = self.writer.input(name, free, np.dtype(dtype))
        self.inputs[value.name or name] = node.name
        return value

    def _input_shape(self, node: Node) -> Shape:
        """Return an input's sizes; only axis 0 may be unknown."""
        shape: Shape | None = self.given.shapes.get(node.name)
        if shape is None and self.given.only is not None and not self.inputs:
            shape = self.given.only
        if shape is None:
            for key in ("__shape__", "shape"):
                if key in node.attributes:
                    shape = Attributes(node.attributes, f"variable {node.name!r}").integers(key)
                    break
        if shape is None or len(shape) > 8 or any(size is None or not 0 < size < 1 << 31 for size in shape[1:]):
            told = "nothing of its shape" if shape is None else f"the shape {tuple(shape)}"
            raise InputError(
                f"{self.source}: the file says {told} of input {node.name!r}. Give input_shape, as in "
                "(1, 3, 224, 224), or the weights that it lacks if it is no input."
            )
        return shape

    def _draw(self, name: str, shape: tuple[int, ...], init: Init) -> np.ndarray:
        if name not in self.drawn:
            self._drawn += math.prod(shape)
            if self._drawn > _MAX_DRAWN:
                raise ModelError(f"{self.source}: got more than {_MAX_DRAWN:,} parameters and no file that holds them")
            self.drawn[name] = init.draw(name, shape, 0)
        return self.drawn[name]

    def _note_unread(self, needed: set[int]) -> None:
        assert self.arrays is not None
        read = {self.symbol.nodes[index].name for index in needed}
        unread = [name for name in self.arrays if name not in read]
        if unread:
            shown = ", ".join(unread[:3]) + (", …" if len(unread) > 3 else "")
            self.note(f"{len(unread)} arrays that no layer reads: {shown}")


def _kind(node: Node) -> str:
    own = node.attributes.get("op_type") if node.op == "Custom" else None
    return f"Custom: {own}" if own else node.op


def _shapes(layer: Layer) -> str:
    found = []
    for index in range(layer.count):
        try:
            shape = layer.value(index).shape
        except (Refused, InputError):
            continue
        found.append("?" if shape is None else str(tuple(shape)))
    return ", ".join(found)
