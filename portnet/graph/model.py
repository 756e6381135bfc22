"""`Model`: an ONNX graph, its weights, and what travels with them.

`onnx_ir.Model` is the graph in memory; protobuf is met at the border alone (`serialize`). Weights stay where
they are (in the file, memory-mapped) until somebody reads them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, WeightsError
from portnet.graph.digests import weights_digest
from portnet.graph.metadata import PREFIX, BackboneInfo, Metadata, Preprocessing

if TYPE_CHECKING:
    from portnet.graph.layers import Layer
    from portnet.graph.parameters import Role

__all__ = ["Model", "Signature"]

# inside the class, ``ir`` is its graph
GraphModel: TypeAlias = ir.Model


@dataclass(frozen=True)
class Signature:
    """One input or output of a network.

    Attributes:
        name: the tensor's name.
        shape: sizes; a string is a symbolic size, None an unknown one. None for an unknown rank.
        dtype: numpy's name of the element type, e.g. "float32"; "bfloat16" and others by ml_dtypes' names.
    """

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str

    def __str__(self) -> str:
        shape = "?" if self.shape is None else "×".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name}: {self.dtype} {shape}"


class Model:
    """A network: ONNX graph, weights by name, labels, preprocessing and provenance.

    Args:
        graph_model: the graph and its initializers.
        metadata: what travels with it; read from the graph's ``metadata_props`` when None.
    """

    def __init__(self, graph_model: GraphModel, metadata: Metadata | None = None) -> None:
        self._graphs = [graph_model]
        self._again: Callable[[], GraphModel] | None = None
        self._lock = threading.Lock()
        self.metadata = metadata or Metadata.from_props(graph_model.metadata_props)

    @classmethod
    def _of_file(cls, make: Callable[[], GraphModel]) -> Model:
        """Return a model whose graph can be made again, so that its first copy may take the one that is there."""
        model = cls(make())
        model._again = make
        return model

    @property
    def ir(self) -> GraphModel:
        """The graph and its initializers."""
        if self._again is not None:
            with self._lock:
                if self._again is not None and not self._graphs:
                    self._graphs.append(self._again())
                self._again = None  # whoever has seen the graph may change it
        return self._graphs[0]

    def __repr__(self) -> str:
        name = self.ir.graph.name or "unnamed"
        ports = ", ".join(map(str, self.inputs)) + " -> " + ", ".join(map(str, self.outputs))
        return f"<Model {name}: {ports}; {len(self.ir.graph)} nodes, {self.parameter_count:,} parameters>"

    # ---- files

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read an .onnx file, external data included, without trusting it.

        Raises:
            ModelError: no such file, not ONNX, truncated, inconsistent, or external data outside its folder.
        """
        from portnet.graph.serialize import load

        return cls._of_file(load(path))

    @classmethod
    def from_bytes(cls, data: bytes) -> Model:
        """Read a serialized ``onnx.ModelProto`` that carries its own weights.

        Raises:
            ModelError: not ONNX, truncated or inconsistent.
        """
        from portnet.graph.serialize import parse

        return cls._of_file(parse(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .onnx file, whole or not at all; weights of 2 GB and more go to ``<name>.data`` beside it.

        Raises:
            OutputError: the path cannot be written.
        """
        from portnet.graph.serialize import save

        save(self.to_ir(), path)

    def to_bytes(self) -> bytes:
        """Return the serialized ``onnx.ModelProto``, weights included (below 2 GB).

        Raises:
            ModelError: it is larger than protobuf can hold.
        """
        from portnet.graph.serialize import serialize

        return serialize(self.to_ir())

    def to_ir(self) -> GraphModel:
        """Return the graph with the metadata written into its ``metadata_props``."""
        props = self.ir.metadata_props
        for name in [name for name in props if name.startswith(PREFIX)]:
            del props[name]
        props.update(self.metadata.to_props())
        return self.ir

    # ---- what travels with the graph

    @property
    def name(self) -> str:
        """Name of the graph, e.g. ``squeezenet1_1``."""
        return self.ir.graph.name or ""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names in the order of the logits, or None."""
        return self.metadata.labels

    @labels.setter
    def labels(self, labels: tuple[str, ...] | list[str] | None) -> None:
        self.metadata.labels = None if labels is None else tuple(labels)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How an image becomes this network's input, or None when unknown."""
        return self.metadata.preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing | None) -> None:
        self.metadata.preprocessing = preprocessing

    @property
    def backbone(self) -> BackboneInfo | None:
        """Where the head begins, or None when unknown."""
        return self.metadata.backbone

    # ---- the graph

    @property
    def inputs(self) -> list[Signature]:
        """The graph's inputs, weights excluded, in order."""
        initializers = self.ir.graph.initializers
        return [_signature(value) for value in self.ir.graph.inputs if value.name not in initializers]

    @property
    def outputs(self) -> list[Signature]:
        """The graph's outputs, in order."""
        return [_signature(value) for value in self.ir.graph.outputs]

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        imports = self.ir.graph.opset_imports
        return imports.get("", imports.get("ai.onnx", 1))

    @property
    def roles(self) -> dict[str, Role]:
        """Role of every initializer (weight, bias, statistic, constant) by name, in graph order."""
        from portnet.graph.parameters import roles

        return roles(self.ir)

    @property
    def parameter_count(self) -> int:
        """Count of trainable scalars: weights and biases, without statistics and constants."""
        initializers = self.ir.graph.initializers.data
        tensors = [initializers[name].const_value for name, role in self.roles.items() if role.trainable]
        return sum(tensor.size for tensor in tensors if tensor is not None)

    @property
    def layers(self) -> list[Layer]:
        """The input and every node, numbered from 1 as they run."""
        from portnet.graph.layers import layers

        return layers(self)

    def canonical(self, supports: frozenset[str] | None = None, *, fixed_ranks: bool = False) -> Model:
        """Return the small trainable form that engines lower; see `portnet.graph.canonical`.

        Args:
            supports: ops that need not be expanded into the standard's function bodies; None for all.
            fixed_ranks: whether every rank must be known, as most engines want.
        """
        from portnet.graph.canonical import canonical

        return canonical(self, supports, fixed_ranks=fixed_ranks)

    # ---- weights

    def weights(self) -> dict[str, np.ndarray]:
        """Return the initializers as arrays, by name, in graph order. Constants are included."""
        return dict(self._arrays())

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, value in self.ir.graph.initializers.items():
            if value.const_value is None:
                raise ModelError(f"initializer {name!r} has no data")
            yield name, value.const_value.numpy()

    def with_weights(self, arrays: Mapping[str, np.ndarray]) -> Model:
        """Return a copy whose initializers named in ``arrays`` hold those values; the rest is shared.

        Raises:
            WeightsError: a name that the graph lacks, or another shape; the first mismatch is named.
        """
        copy = self.copy()
        initializers = copy.ir.graph.initializers
        for name, array in arrays.items():
            if name not in initializers:
                raise WeightsError(f"weights: the network {self.name!r} has no initializer named {name!r}")
            old = initializers[name].const_value
            if old is None:
                raise ModelError(f"initializer {name!r} has no data")
            expected = old.shape.numpy()
            if tuple(array.shape) != expected:
                raise WeightsError(
                    f"weights: {name!r} got shape {tuple(array.shape)}, expected {expected} for network {self.name!r}"
                )
            dtype = old.dtype.numpy()
            initializers[name].const_value = ir.Tensor(
                np.asarray(array, dtype=dtype, order="C"),
                name=name,
                dtype=old.dtype,
            )
        return copy

    def copy(self) -> Model:
        """Return a copy with a graph of its own; weight arrays are shared, not duplicated."""
        metadata = Metadata(
            self.metadata.labels,
            self.metadata.preprocessing,
            self.metadata.backbone,
            dict(self.metadata.provenance),
        )
        return Model(self._copied(), metadata)

    def _copied(self) -> GraphModel:
        """Return a graph like this one: of a file, the one that is there, as long as nobody has seen it."""
        with self._lock:
            again = self._again
            if again is not None and self._graphs:
                return self._graphs.pop()
        return self.ir.clone() if again is None else again()

    def __deepcopy__(self, memo: dict[int, object]) -> Model:
        return self.copy()

    def __reduce__(self) -> tuple[object, ...]:
        # the graph's nodes point at each other, so deep that pickle would not reach the end
        return Model.from_bytes, (self.to_bytes(),)

    def digest(self) -> str:
        """SHA-256 over the names, dtypes, shapes and bytes of all initializers, as hexadecimal."""
        return weights_digest(self.weights())


def _signature(value: ir.Value) -> Signature:
    shape = None
    if value.shape is not None:
        shape = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
    dtype = "unknown" if value.dtype in (None, ir.DataType.UNDEFINED) else _dtype_name(value.dtype)
    return Signature(value.name or "", shape, dtype)


def _dtype_name(dtype: ir.DataType) -> str:
    return "string" if dtype == ir.DataType.STRING else str(dtype.numpy())
