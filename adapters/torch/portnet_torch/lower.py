"""The walk that turns a canonical ONNX graph into a `torch.fx.GraphModule`.

Every ONNX value is a `Call`: a builder calls a native layer (`TorchLowering.layer`) or a function
(`TorchLowering.call`) on such values, and that is recorded. Sizes known while the network is built are Python integers;
symbolic ones become ``x.size(axis)`` and arithmetic on it, so that `torch.export` and `torch.compile` see no
data-dependent work.
"""

from __future__ import annotations

import functools
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from portnet.graph.host import HostValue
from portnet.graph.lowering import Builder, HostValueNeededError, Lowering, NodeView
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.graph.sizes import evaluate_size
from portnet.graph.storage import to_copy
from portnet_torch.bare import put
from portnet_torch.binding import PLAIN, Binding, Layout
from portnet_torch.dtypes import own_tensor, to_tensor, torch_dtype
from portnet_torch.module import Network
from portnet_torch.naming import RESERVED, LayerPaths, free, identifier, layer_name, weight_owner
from portnet_torch.network import TorchLowered
from portnet_torch.ops import TABLE
from portnet_torch.recording import Call, Recorder

__all__ = ["Subgraph", "TorchLowering", "lower"]


def lower(model: Model, device: str) -> TorchLowered:
    """Lower a canonical model and move it to ``device``."""
    walk = TorchLowering(model, device=device)
    native = walk.build()
    # it was built on the CPU
    return TorchLowered(model, native if device == "cpu" else native.to(device), walk.shared.bindings, device)


@dataclass
class _Shared:
    """What the walks over a graph and its subgraphs have in common.

    Attributes:
        device: where the network will run.
        memory_format: channels_last when the network reads images.
        bindings: where each initializer went, in the order of lowering.
    """

    device: str
    memory_format: torch.memory_format
    bindings: list[Binding] = field(default_factory=list)


@dataclass(frozen=True)
class Subgraph:
    """A lowered If branch or Loop body.

    Attributes:
        module: takes the subgraph's inputs, then the captured values; returns a tuple.
        captured: values of the outer graph that it reads.
    """

    module: Network
    captured: list[Call]


class TorchLowering(Lowering[Call]):
    """Lowers one graph; a subgraph of If, Loop or Scan is lowered by a child.

    Attributes:
        shared: state common to parent and children.
        absorbed: Add nodes whose bias the layer before them has taken over.
    """

    engine: ClassVar[str] = "torch"
    takes_turned: ClassVar[bool] = True
    table: ClassVar[Mapping[str, Builder]] = TABLE

    def __init__(
        self,
        model: Model,
        graph: ir.Graph | None = None,
        *,
        device: str = "cpu",
        parent: TorchLowering | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(model, graph)
        self.parent = parent
        self.prefix = prefix
        self.shared = parent.shared if parent else _Shared(device, memory_format(model))
        self.absorbed: set[ir.Node] = set()
        self._root = Network(identifier(self.graph.name or "Network"))
        self._recorder = Recorder()
        self._paths = LayerPaths()
        self._adopted: dict[tuple[Any, ...], str] = {}
        self._sizes: dict[Any, Call] = {}
        self._captured: dict[ir.Value, Call] = {}
        self._inlined = {self.graph}
        if parent is not None:
            self.symbols = ChainMap({}, parent.symbols)  # type: ignore[assignment]

    def build(self) -> Network:
        """Walk the graph and return the module that runs it."""
        outputs = self.walk()
        single = len(outputs) == 1 and self.parent is None
        self._root.finish(self._recorder, outputs[0] if single else tuple(outputs))
        return self._root

    # ---- the hooks of the shared walk

    def make_input(self, value: ir.Value) -> Call:
        """Return a placeholder named like the input."""
        taken = {call.target for call in self._recorder.inputs} | RESERVED
        return self._recorder.record("placeholder", free(identifier(value.name or "x"), taken))

    def make_parameter(self, value: ir.Value, array: np.ndarray) -> Call:
        """Return a parameter, or a buffer for a running statistic, of the network itself."""
        path = self._paths.new(value.name or "parameter")
        self._set(path, self._tensor_for(value, self._own(array)))
        self._bind_initializer(value, (path,), PLAIN)
        return self._recorder.record("get_attr", path)

    def make_constant(self, value: ir.Value, array: np.ndarray) -> Call:
        """Return a buffer that the state dict leaves out; strings stay a numpy array."""
        path = self._paths.new(value.name or "constant")
        tensor = to_tensor(array)
        self._set(path, tensor.clone() if isinstance(tensor, Tensor) else tensor, persistent=False)
        return self._recorder.record("get_attr", path)

    def make_symbolic(self, value: ir.Value, host: HostValue) -> Call:
        """Return a tensor made from sizes of the inputs."""
        sizes = np.frompyfunc(self.size, 1, 1)(host.array)
        dtype = torch_dtype(ir.DataType.from_numpy(host.dtype or np.dtype(np.int64)))
        nested = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
        return self.call(torch.tensor, nested, dtype=dtype, device=self.shared.device)

    def value(self, value: ir.Value | None) -> Call:
        """Return the record of an ONNX value; one of an outer graph is captured as one more input."""
        if value is not None and value not in self.values and self._is_outer(value):
            self.values[value] = self._capture(value)
        return super().value(value)

    def try_host(self, value: ir.Value) -> HostValue | None:
        """Return a value known on the host, asking the outer graph for what is its own."""
        if self.parent is not None and self._is_outer(value):
            return self.parent.try_host(value)
        return super().try_host(value)

    def _bind(self, node: NodeView, produced: Any) -> None:
        super()._bind(node, produced)
        for value in node.outputs:
            call = self.values.get(value)
            if call is not None:
                self._recorder.name(call, node.name if len(node.outputs) == 1 else f"{node.name}_{value.name}")

    # ---- what builders use

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Record a call of a function."""
        return self._recorder.record("call_function", function, args, kwargs)

    def method(self, name: str, tensor: Call, *args: Any, **kwargs: Any) -> Any:
        """Record a call of a tensor's method."""
        return self._recorder.record("call_method", name, (tensor, *args), kwargs)

    def layer(self, module: nn.Module, name: str, *args: Any) -> Any:
        """Add a layer under a path made from ``name`` and record a call of it."""
        path = self._paths.new(name)
        self._set(path, module)
        return self._recorder.record("call_module", path, args)

    def adopt(
        self, module: nn.Module, node: NodeView, weights: Mapping[str, tuple[ir.Value | None, Layout]], *args: Any
    ) -> Any:
        """Add a native layer that takes over initializers, and record a call of it.

        Args:
            module: the layer, as `bare` makes it.
            node: the ONNX node that it stands for.
            weights: tensor names of the layer, joined by a space where one initializer fills several -> the
                initializer and its layout.
            args: what the layer is called on.
        """
        key = (node.op, *(value for value, _ in weights.values()))
        if key in self._adopted:
            return self._recorder.record("call_module", self._adopted[key], args)
        owners = (weight_owner(value.name or "") for value, _ in weights.values() if value is not None)
        path = self._paths.new(next(filter(None, owners), None) or layer_name(node.name, node.op))
        for names, (value, layout) in weights.items():
            if value is not None and value.const_value is not None:
                self._fill(module, path, names.split(), value, layout)
        self._set(path, module)
        self._adopted[key] = path
        return self._recorder.record("call_module", path, args, name=node.name)

    def adoptable(self, *values: ir.Value | None) -> bool:
        """Whether a native layer may take over all of these initializers (those left out aside).

        It may where one node reads them, or several nodes that differ in their data alone, as a head that detectors
        apply at every scale: these become several calls of one layer.
        """
        present = [value for value in values if value is not None]
        return all(self.is_weight(value) and self._is_of_one_layer(value) for value in present)

    def _is_of_one_layer(self, value: ir.Value) -> bool:
        uses = value.uses()
        same_graph = all(node.graph is self.graph for node, _ in uses)
        return self.is_exclusive(value) or (
            not value.is_graph_output() and same_graph and len({_layer_of(node) for node, _ in uses}) == 1
        )

    def size(self, size: Any) -> Any:
        """Return a host size as an integer, or as arithmetic on ``x.size(axis)`` where it is symbolic."""
        return evaluate_size(size, self._leaf, functools.partial(self.call, torch.sym_max))

    def ints(self, value: ir.Value | None) -> Any:
        """Return an integer tensor as a list of ints and symbolic sizes, or as a list made while the network runs."""
        try:
            return [self.size(size) for size in self.host_dims(value)]
        except HostValueNeededError:
            return self.method("tolist", self.method("flatten", self.value(value)))

    def item(self, value: ir.Value | None) -> Any:
        """Return a tensor of one element as a Python number, a symbolic size, or a number read while running."""
        try:
            [size] = self.host_dims(value)
        except HostValueNeededError:
            return self.method("item", self.value(value))
        if isinstance(size, (bool, int, float)):
            return size
        return self.size(size) if size.is_integer else self.method("item", self.value(value))

    def rank(self, value: ir.Value | None) -> int:
        """Return the number of axes of a tensor.

        Raises:
            UnsupportedError: shape inference could not tell.
        """
        if value is None or value.shape is None:
            raise self.unsupported(f"the rank of {value.name if value else 'an input'!r} is not known")
        return len(value.shape)

    def dtype(self, value: ir.Value | None) -> torch.dtype:
        """Return the torch dtype that carries a value's element type."""
        return torch_dtype(value.dtype if value is not None else None)

    def subgraph(self, graph: ir.Graph, prefix: str) -> Subgraph:
        """Lower a subgraph that will live under the path ``prefix``."""
        child = TorchLowering(self.model, graph, parent=self, prefix=f"{self.prefix}{prefix}.")
        module = child.build()
        return Subgraph(module, [self.value(value) for value in child._captured])

    def control(
        self, make: Callable[..., nn.Module], node: NodeView, graphs: Mapping[str, ir.Graph], *args: Any
    ) -> Any:
        """Add a module of control flow over lowered subgraphs and record a call of it on ``args``.

        Args:
            make: takes one `Subgraph.module` by name for each of ``graphs``.
            node: the If, Loop or Scan.
            graphs: its subgraphs by the name of their attribute in the module.
            args: what the module is called on; a list of captured values for each subgraph follows.
        """
        path = self._paths.new(node.name)
        lowered = {name: self.subgraph(graph, f"{path}.{name}") for name, graph in graphs.items()}
        self._set(path, make(**{name: sub.module for name, sub in lowered.items()}))
        captured = [sub.captured for sub in lowered.values()]
        return self._recorder.record("call_module", path, (*args, *captured))

    def inline(self, graph: ir.Graph) -> list[Call]:
        """Lower a subgraph that has no inputs right here, and return its outputs."""
        outer, self.graph = self.graph, graph
        self._inlined.add(graph)
        try:
            return self.walk()
        finally:
            self.graph = outer

    # ---- inside

    def _leaf(self, symbol: Any) -> Call:
        if symbol not in self._sizes:
            source, axis = self.symbols[symbol]
            self._sizes[symbol] = self.method("size", self.value(source), axis)
        return self._sizes[symbol]

    def _is_outer(self, value: ir.Value) -> bool:
        return self.parent is not None and value.graph not in self._inlined

    def _capture(self, value: ir.Value) -> Call:
        self._captured[value] = self.make_input(value)
        return self._captured[value]

    def _set(self, path: str, item: Any, *, persistent: bool = True) -> None:
        *parents, leaf = path.split(".")
        owner = self._root
        for part in parents:
            if part not in owner._modules:
                owner._modules[part] = nn.Module()
            owner = owner._modules[part]  # type: ignore[assignment]
        if isinstance(item, nn.Module):
            owner._modules[leaf] = item
        elif isinstance(item, Tensor) and not isinstance(item, nn.Parameter):
            owner.register_buffer(leaf, item, persistent=persistent)
        else:
            setattr(owner, leaf, item)

    def _own(self, array: np.ndarray) -> Tensor:
        return own_tensor(array, self._memory_format(array))

    def _memory_format(self, array: np.ndarray | Tensor) -> torch.memory_format:
        return self.shared.memory_format if array.ndim == 4 else torch.contiguous_format

    def _tensor_for(self, value: ir.Value, tensor: Tensor) -> Tensor:
        role = self.roles.get(value.name or "", Role.CONSTANT)
        if role is Role.STATISTIC:
            return tensor
        return nn.Parameter(tensor, requires_grad=role.trainable)

    def _fill(self, module: nn.Module, path: str, names: list[str], value: ir.Value, layout: Layout) -> None:
        array = to_copy(value.const_value)  # type: ignore[arg-type]
        for name, own in zip(names, self._parts(array, layout), strict=True):
            put(module, name, own if name in module._buffers else self._tensor_for(value, own))
        self._bind_initializer(value, tuple(f"{path}.{name}" for name in names), layout)

    def _parts(self, array: np.ndarray, layout: Layout) -> list[Tensor]:
        """Return the native tensors of an array, each of its own memory."""
        if layout is PLAIN:
            return [self._own(array)]
        return [part.clone(memory_format=self._memory_format(part)) for part in layout.split(to_tensor(array))]

    def _bind_initializer(self, value: ir.Value, paths: tuple[str, ...], layout: Layout) -> None:
        role = self.roles.get(value.name or "", Role.CONSTANT)
        if role is not Role.CONSTANT:
            full = tuple(f"{self.prefix}{path}" for path in paths)
            self.shared.bindings.append(Binding(value.name or "", full, layout, role is Role.STATISTIC))


def memory_format(model: Model) -> torch.memory_format:
    """Return channels_last for a network that reads images (a 4-D float input), else contiguous."""
    images = any(port.shape is not None and len(port.shape) == 4 and "float" in port.dtype for port in model.inputs)
    return torch.channels_last if images else torch.contiguous_format


def _layer_of(node: ir.Node) -> tuple[Any, ...]:
    """Return what makes two nodes the same layer: op, attributes, ranks, and initializers by place."""
    weights = tuple(value if value is not None and value.const_value is not None else None for value in node.inputs)
    attributes = tuple(sorted((name, repr(attribute.value)) for name, attribute in node.attributes.items()))
    ranks = tuple(None if value is None or value.shape is None else len(value.shape) for value in node.inputs)
    return (node.op_type, node.domain, attributes, ranks, weights, len(node.outputs))
