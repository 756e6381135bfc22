"""The walk over a network's layers, in the order of their data, that writes the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, PortNetError, UnsupportedError, WeightsError
from portnet.formats.captured import Missing
from portnet.formats.keras.config import Call, LayerConfig, NetworkConfig, Ref
from portnet.formats.keras.held import Held, channels_first, identity
from portnet.formats.keras.masks import Mask, take_mask
from portnet.formats.keras.node import LayerNode, Place
from portnet.formats.keras.options import Options
from portnet.formats.keras.order import ordered_calls
from portnet.formats.keras.registry import TABLE
from portnet.formats.keras.supply import Path, Slot, Supply
from portnet.formats.writer import GraphWriter

__all__ = ["BROKEN", "Walk"]

# what operations on a file's configuration may raise that is not of the types it should be of
BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
# numbers of an architecture, such as a scale of ones, that a layer may need
_MAX_CONSTANT = 1 << 26


@dataclass
class Walk:
    """Writes one network; builders call back what they need.

    Attributes:
        writer: the graph.
        supply: arrays of the layers.
        missing: what has no translation.
        keras2: whether the network was Keras 2's, in which some activations are others.
        trusted: whether the configuration is a living network's, so that what goes wrong is a bug.
        notes: what the user must know.
        places: where in Keras each named tensor is.
        loose: learned arrays that one op alone reads, so that they may be laid out as it needs them.
        masks: of tensors whose steps do not all count.
        frozen: arrays of layers that do not train, "parameters" and "statistics".
        learned: arrays that are no statistics.
    """

    writer: GraphWriter
    supply: Supply
    missing: Missing
    keras2: bool = False
    trusted: bool = False
    notes: list[str] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    here: str = ""
    loose: set[ir.Value] = field(default_factory=set)
    masks: dict[ir.Value, Mask] = field(default_factory=dict)
    frozen: dict[str, list[ir.Value]] = field(default_factory=dict)
    learned: list[ir.Value] = field(default_factory=list)
    _moved: dict[tuple[Any, ...], Held] = field(default_factory=dict)
    _left_out: dict[str, list[str]] = field(default_factory=dict)

    # ---- the walk

    def network(
        self, config: NetworkConfig, inputs: Sequence[Held | None], path: Path = (), shared: bool = False
    ) -> list[Held | None]:
        """Translate a network's layers; a tensor behind something that has no translation is None."""
        known: dict[Ref, Held | None] = {}
        if len(inputs) != len(config.inputs):
            raise ModelError(f"network {config.name!r}: got {len(inputs)} inputs, expected {len(config.inputs)}")
        known.update(zip(config.inputs, inputs, strict=True))
        layers = {layer.name: layer for layer in config.layers}
        for name, index in ordered_calls(config):
            layer = layers[name]
            if Ref(name, index, 0) in known:
                continue
            call = layer.calls[index] if layer.calls else Call([], {})
            results = self._call(layer, call, index, known, path, shared)
            known.update({Ref(name, index, i): result for i, result in enumerate(results)})
        return [_known(known, ref) for ref in config.outputs]

    def _call(
        self, layer: LayerConfig, call: Call, index: int, known: Mapping[Ref, Held | None], path: Path, shared: bool
    ) -> list[Held | None]:
        read = [_known(known, ref) for ref in call.refs()]
        if any(held is None for held in read):
            return [None] * 8
        args, kwargs = _resolved(call.args, known), _resolved(call.kwargs, known)
        node = LayerNode(
            layer.kind,
            (*path, layer.name),
            Options(layer.options, layer.name),
            args,
            kwargs,
            shared or len(layer.calls) > 1,
        )
        return self.apply(node, layer.network, index)

    def apply(self, node: LayerNode, network: NetworkConfig | None = None, index: int = 0) -> list[Held | None]:
        """Translate one call of a layer, or of a network within."""
        if network is not None:
            inputs = [held for held in node.inputs if held is not node.kwargs.get("mask")]
            return self.network(network, inputs, node.path, node.shared)
        before, self.here = self.here, node.name
        made = self.writer.count
        try:
            node, mask = take_mask(self, node)
            result = TABLE[node.kind](self, node)
        except UnsupportedError as error:
            self.missing.add(f"{node.kind} with {error}", node.name)
            return [None] * 8
        except PortNetError:
            raise
        except BROKEN as error:
            if self.trusted:
                raise
            text = " ".join(str(error).split())
            raise ModelError(f"layer {node.name!r} ({node.kind}): its configuration is broken: {text}") from error
        finally:
            self.here = before
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        if mask is not None:
            self.masks[results[0].value] = mask
        return [self._christen(held, node, index, i, made) for i, held in enumerate(results)]

    def inside(self, node: LayerNode, network: NetworkConfig | None) -> list[Held]:
        """Translate what a wrapper such as TimeDistributed has inside, as a part of the present layer.

        Raises:
            UnsupportedError: it has no translation.
        """
        if network is not None:
            found = self.network(network, node.inputs, node.path, True)
            if None in found:
                raise UnsupportedError("a network inside that has no translation")
            return [held for held in found if held is not None]
        if any(held.value in self.masks for held in node.inputs):
            raise UnsupportedError("a mask")
        result = TABLE[node.kind](self, node)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _christen(self, held: Held, node: LayerNode, index: int, output: int, made: int) -> Held:
        """Give the tensor that a layer ends in the layer's name."""
        if self.writer.made_since(held.value, made):
            self.writer.rename(held.value, node.name if output == 0 else f"{node.name}.{output}")
            if held.packing is None:
                self.places[held.value.name or ""] = Place(node.path, index, output, held.order)
        return held

    # ---- what builders call: nodes

    def emit(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        order: tuple[int, ...] | None = None,
        what: str = "",
        **attributes: Any,
    ) -> Held:
        """Append a node of the present layer; its output's axes lie in ``order``, by default as Keras has them."""
        value = self.writer.node(op, inputs, f"{self.here}/{what or op.lower()}", **attributes)
        return Held.plain(value) if order is None else Held(value, order)

    def same(self, op: str, x: Held, *others: ir.Value, what: str = "", **attributes: Any) -> Held:
        """Append a node whose output is laid out as its first input."""
        value = self.writer.node(op, [x.value, *others], f"{self.here}/{what or op.lower()}", **attributes)
        return Held(value, x.order, x.packing)

    def number(self, value: float, what: str) -> ir.Value:
        """Return a constant float32 scalar of the present layer."""
        return self.writer.constant(value, f"{self.here}/{what}", np.float32)

    def ints(self, values: Sequence[int] | int, what: str) -> ir.Value:
        """Return constant whole numbers of the present layer."""
        return self.writer.ints(values, f"{self.here}/{what}")

    def constant(self, array: Any, what: str, dtype: Any = np.float32) -> ir.Value:
        """Return a constant array of the present layer."""
        return self.writer.constant(array, f"{self.here}/{what}", dtype)

    def filled(self, shape: tuple[int, ...], number: float, what: str) -> ir.Value:
        """Return a constant array of one number."""
        if int(np.prod(shape, dtype=object)) > _MAX_CONSTANT:
            raise ModelError(
                f"layer {self.here!r}: got a shape {shape} that is larger than any network needs. Refused."
            )
        return self.constant(np.full(shape, number, np.float32), what)

    # ---- arrays

    def weights(self, node: LayerNode, *slots: Slot | None) -> dict[str, np.ndarray]:
        """Return a layer's arrays, in Keras's layout, by the slots' names; None stands for one left out.

        Raises:
            WeightsError: an array that is missing or has another shape.
        """
        wanted = [slot if not node.group else _below(slot, node.group) for slot in slots if slot is not None]
        found = {}
        for slot, array in zip(wanted, self.supply.arrays(node.path, wanted), strict=True):
            if tuple(array.shape) != slot.shape:
                raise WeightsError(
                    f"weights: '{node.name}/{slot.name}' got shape {tuple(array.shape)}, expected {slot.shape}"
                )
            found[slot.name] = array if array.dtype == np.float32 else array.astype(np.float32)
        return found

    def parameter(self, node: LayerNode, name: str, array: np.ndarray) -> ir.Value:
        """Add an array that the network learned as ``layer/name``, laid out as ONNX has it."""
        value = self.writer.weight(f"{node.name}/{name}", np.ascontiguousarray(array))
        if not name.startswith("moving_"):
            self.learned.append(value)
        if node.options.values.get("trainable") is False:
            kind = "statistics" if name.startswith("moving_") else "parameters"
            self.frozen.setdefault(kind, []).append(value)
        return value

    def lay(self, value: ir.Value, order: Sequence[int]) -> None:
        """Lay out a loose array, whose axes are the last ones of a tensor, as it broadcasts against that tensor."""
        self.loose.remove(value)
        assert value.const_value is not None
        array = value.const_value.numpy()
        array = array.reshape([1] * (len(order) - array.ndim) + list(array.shape)).transpose(order)
        while array.ndim > 1 and array.shape[0] == 1:
            array = array[0]
        value.const_value = ir.Tensor(np.ascontiguousarray(array), name=value.name)
        value.shape = ir.Shape(array.shape)

    # ---- order of axes

    def arranged(self, x: Held, order: Sequence[int]) -> Held:
        """Return a tensor with its axes in a given order, moved if need be; each move is made once."""
        if x.packing is not None:
            x = self._unpacked(x)
        order = tuple(order)
        if x.order == order:
            return x
        key = (x.value, x.order, order)  # a tensor may be held in several orders, as by ops.transpose
        if key not in self._moved:
            perm = [x.order.index(axis) for axis in order]
            value = self.writer.node("Transpose", [x.value], f"{x.value.name}/transpose", perm=perm)
            self._moved[key] = Held(value, order)
        return self._moved[key]

    def plain(self, x: Held) -> Held:
        """Return a tensor with its axes as Keras has them."""
        return self.arranged(x, identity(x.rank))

    def spatial(self, x: Held, node: LayerNode, rank: int) -> Held:
        """Return a tensor channels first, for an op that works on windows; ``rank`` counts its spatial axes."""
        if x.rank != rank + 2:
            raise ModelError(f"layer {node.name!r}: got an input of {x.rank} axes, expected {rank + 2}")
        return self.arranged(x, channels_first(x.rank) if self.channels_last(node) else identity(x.rank))

    def channels_last(self, node: LayerNode) -> bool:
        """Whether a layer takes its channels last."""
        return (
            node.options.choice("data_format", "channels_last", ("channels_last", "channels_first")) == "channels_last"
        )

    def aligned(self, tensors: Sequence[Held]) -> list[Held]:
        """Return tensors of one rank in one order: the first that is not Keras's own."""
        ranks = {x.rank for x in tensors}
        if len(ranks) != 1:
            raise UnsupportedError(f"inputs of {' and '.join(map(str, sorted(ranks)))} axes")
        if all(x.packing is not None for x in tensors):
            sources = {(x.packing.source.shape[1:], x.packing.source.order) for x in tensors if x.packing is not None}
            if len(sources) == 1:
                return list(tensors)
        (rank,) = ranks
        order = next((x.order for x in tensors if x.order != identity(rank)), identity(rank))
        return [self.arranged(x, order) for x in tensors]

    def _unpacked(self, x: Held) -> Held:
        """Return a flattened tensor in Keras's order: flattened anew, or sorted where something happened since."""
        assert x.packing is not None
        source, key = x.packing.source, (x.value, identity(2))
        if key not in self._moved:
            producer = x.value.producer()
            if producer is not None and producer.op_type == "Flatten" and producer.inputs[0] is source.value:
                value = self.writer.node("Flatten", [self.plain(source).value], f"{x.value.name}/flatten", axis=1)
            else:
                places = self.writer.ints(np.argsort(x.packing.permutation).tolist(), f"{x.value.name}/places")
                value = self.writer.node("Gather", [x.value, places], f"{x.value.name}/gather", axis=1)
            self._moved[key] = Held.plain(value)
        return self._moved[key]

    # ---- what the user must know

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def leave_out(self, node: LayerNode, why: str) -> None:
        """Say that a layer was left out; layers of one kind are told together."""
        self._left_out.setdefault(f"{node.kind} {why}", []).append(node.name)

    def left_out(self) -> Iterator[str]:
        """Yield a sentence for each kind of layer that was left out."""
        for kind, names in self._left_out.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"{kind}: {', '.join(names[:3])}{more}."


def _below(slot: Slot, group: str) -> Slot:
    return replace(slot, group="/".join(filter(None, (group, slot.group))))


def _known(known: Mapping[Ref, Held | None], ref: Ref) -> Held | None:
    if ref not in known:
        raise ModelError(f"configuration: layer {ref.layer!r} has no output {ref.tensor} of call {ref.node}")
    return known[ref]


def _resolved(value: Any, known: Mapping[Ref, Held | None]) -> Any:
    if isinstance(value, Ref):
        return _known(known, value)
    if isinstance(value, Mapping):
        return {key: _resolved(item, known) for key, item in value.items()}
    return [_resolved(item, known) for item in value] if isinstance(value, list) else value
