"""Branches that the data choose while the network runs: each is a functional model of its own, and one of them runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import HostValueNeededError
from portnet.graph.parameters import Role
from portnet_keras.framework import keras, ops
from portnet_keras.functional import functional
from portnet_keras.layout import KValue, identity
from portnet_keras.lower import KerasLowering
from portnet_keras.naming import distinct_names

__all__ = ["Branch", "Branches", "either", "network_of"]


@keras.saving.register_keras_serializable("portnet")
class Branches(keras.layers.Layer):
    """Runs one of two networks, as the first input says.

    Args:
        chosen: network of a true condition.
        otherwise: network of a false one; its outputs have the types and ranks of the first's.
        chosen_reads: which of the further inputs the first network takes.
        otherwise_reads: which the second takes.
    """

    def __init__(
        self, chosen: Any, otherwise: Any, chosen_reads: Sequence[int], otherwise_reads: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.chosen, self.otherwise = chosen, otherwise
        self.reads = (list(chosen_reads), list(otherwise_reads))
        self.built = True

    def call(self, condition: Any, *tensors: Any, training: bool | None = None) -> list[Any]:
        """Return the outputs of the network that the condition chooses."""

        def run(network: Any, reads: list[int]) -> list[Any]:
            given = [tensors[i] for i in reads]
            return list(keras.tree.flatten(network(given if len(given) > 1 else given[0], training=training)))

        chosen, otherwise = self.reads
        return ops.cond(
            ops.reshape(condition, ()), lambda: run(self.chosen, chosen), lambda: run(self.otherwise, otherwise)
        )

    def compute_output_spec(self, condition: Any, *tensors: Any, training: bool | None = None) -> list[Any]:
        """Return types, and the sizes on which both networks agree."""
        return [
            keras.KerasTensor([m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)], dtype=a.dtype)
            for a, b in zip(self.chosen.outputs, self.otherwise.outputs, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        networks = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("chosen", "otherwise")}
        return {**super().get_config(), **networks, "chosen_reads": self.reads[0], "otherwise_reads": self.reads[1]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Branches:
        """Make a layer of what `get_config` returned."""
        networks = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("chosen", "otherwise")}
        return cls(**{**config, **networks})


class Branch(KerasLowering):
    """Lowers a subgraph as a model of its own; what it reads from outside become its inputs.

    Attributes:
        captured: tensor of the outer network that each input stands for.
    """

    def __init__(self, outer: KerasLowering, graph: ir.Graph) -> None:
        super().__init__(outer.model, graph, outer)
        self.outer, self.captured = outer, []
        self.values, self.inputs_made, self.moved, self._anchor = {}, [], {}, None

    @property
    def anchor(self) -> Any:
        """Any tensor of the branch, to hang loose weights on."""
        if not self.inputs_made:
            self._take(KValue(self.outer.anchor, identity(len(self.outer.anchor.shape))))
        return self.inputs_made[0].data

    def _materialise(self, value: ir.Value) -> KValue:
        known_outside = value in self.outer.values or value.const_value is None
        if known_outside and value not in self.host_values:
            return self._take(self.outer.value(value))
        shared = self.roles.get(value.name or "", Role.CONSTANT) is not Role.CONSTANT and not self.is_exclusive(value)
        return self._take(self.outer.value(value)) if shared else super()._materialise(value)

    def _take(self, found: KValue) -> KValue:
        """Return a value of the outer network as an input of this one."""
        if not isinstance(found.data, keras.KerasTensor):
            return found
        for made, outer in zip(self.inputs_made, self.captured, strict=True):
            if outer is found.data:
                return KValue(made.data, found.order, found.packing)
        name = self.name(f"{self.graph.name}_input")
        made = KValue(keras.Input(batch_shape=found.data.shape, dtype=found.data.dtype, name=name), found.order)
        self.inputs_made.append(made)
        self.captured.append(found.data)
        return KValue(made.data, found.order, found.packing)


def either(walk: KerasLowering, source: ir.Value, graphs: Sequence[ir.Graph], name: str) -> list[KValue]:
    """Return the outputs of two graphs, of which the computed condition ``source`` chooses one.

    Raises:
        HostValueNeededError: they give results of different ranks, or sequences.
        UnsupportedError: they give results of different types.
    """
    condition = walk.symbolic(walk.plain(source))
    branches = [Branch(walk, graph) for graph in graphs]
    results = [branch.walk() for branch in branches]
    orders = []
    for a, b in zip(*results, strict=True):
        if isinstance(a.data, list) or isinstance(b.data, list) or a.rank != b.rank or a.packing or b.packing:
            # the result would have one rank or another
            raise HostValueNeededError(source)
        orders.append(b.order if a.is_constant else a.order)
    networks = [_network(branch, values, orders) for branch, values in zip(branches, results, strict=True)]
    if any(a.dtype != b.dtype for a, b in zip(networks[0].outputs, networks[1].outputs, strict=True)):
        raise walk.unsupported("a computed condition between results that differ in type")
    read: list[Any] = []
    for branch in branches:
        read += [tensor for tensor in branch.captured if not any(tensor is other for other in read)]
    places = [[next(i for i, x in enumerate(read) if x is tensor) for tensor in branch.captured] for branch in branches]
    layer = Branches(*networks, *places, name=walk.name(name))
    return [KValue(data, order) for data, order in zip(layer(condition, *read), orders, strict=True)]


def _network(branch: Branch, values: Sequence[KValue], orders: Sequence[tuple[int, ...]]) -> Any:
    tensors = [branch.symbolic(branch.ordered(value, order)) for value, order in zip(values, orders, strict=True)]
    assert branch.anchor is not None
    inputs = [made.data for made in branch.inputs_made]
    own = [ops.copy(x) if any(x is other for other in inputs) else x for x in tensors]
    return network_of(branch, inputs, own)


def network_of(branch: Branch, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """Return the model that a subgraph was lowered to."""
    distinct_names(branch, [KValue(data, identity(len(data.shape))) for data in outputs])
    name = branch.name(branch.graph.name or "branch")
    return functional(inputs if len(inputs) > 1 else inputs[0], outputs, name)
