"""From what torch's exporter built to a `Model`: weights by their names in torch, no trace of detours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from portnet.graph.canonical import canonical
from portnet.graph.model import Model
from portnet.graph.parameters import ROLE_MARK, Role, mark_constant, roles
from portnet_torch.capturing.labels import Places, name_layers, set_stages
from portnet_torch.capturing.recurrent import lay_out_weights
from portnet_torch.capturing.sizes import simplify_sizes
from portnet_torch.dtypes import to_array

__all__ = ["Built", "build"]

_SYMBOL = re.compile(r"\bs\d+\b")
BATCH = "N"


@dataclass(frozen=True)
class Built:
    """A network as a graph.

    Attributes:
        model: the network.
        places: where its tensors are found again in torch.
        stacked: names of torch's weights that one weight of a recurrent layer holds, by that one's name.
    """

    model: Model
    places: Places
    stacked: dict[str, list[str]]


def build(graph_model: ir.Model, program: ExportedProgram, name: str, leaves: Iterable[str]) -> Built:
    """Return the network as a graph.

    Args:
        graph_model: torch's exporter's; it is used up.
        program: the traced network, which knows parameters from buffers.
        name: of the graph.
        leaves: paths of the modules without submodules.
    """
    graph = graph_model.graph
    graph.name = name
    _take_weights(graph, program)
    _name_sizes(graph)
    _separate_outputs(graph)
    places = name_layers(graph, leaves)
    _name_outputs(graph, program, places)
    _forget_exporter(graph_model)
    simplify_sizes(graph)
    _mark_roles(graph_model)
    traced = {value.name: value.shape for node in graph for value in node.outputs if value.name}
    model = canonical(Model(graph_model))
    _believe(model.ir.graph, traced)
    still = [name for name, tensor in program.state_dict.items() if not tensor.requires_grad]
    stacked = lay_out_weights(model.ir, still)
    set_stages(model.ir.graph)
    model.ir.producer_name, model.ir.producer_version = "portnet", ""
    return Built(model, places, stacked)


# ---- weights


def _take_weights(graph: ir.Graph, program: ExportedProgram) -> None:
    """Copy weights, so that training either network leaves the other alone; a tied one is there once.

    It bears the first of its names in the state_dict, and says whether it is one of torch's parameters.
    """
    parameters = set(program.graph_signature.parameters)
    first_names: dict[tuple[object, ...], str] = {}
    for name, tensor in {**program.state_dict, **program.constants}.items():
        if isinstance(tensor, torch.Tensor):
            first_names.setdefault(_identity(name, tensor), name)
    for name in list(graph.initializers):
        tensor = program.state_dict.get(name, program.constants.get(name))
        if not isinstance(tensor, torch.Tensor):
            continue
        value, first = graph.initializers.pop(name), first_names[_identity(name, tensor)]
        if first in graph.initializers:
            value.replace_all_uses_with(graph.initializers[first], replace_graph_outputs=True)
            continue
        kind = value.const_value.dtype if value.const_value is not None else None
        array = np.array(to_array(tensor.detach()), order="C")
        value.name, value.const_value = first, ir.Tensor(array, name=first, dtype=kind)
        graph.register_initializer(value)
        value.meta[_PARAMETER] = name in parameters


def _identity(name: str, tensor: torch.Tensor) -> tuple[object, ...]:
    if not tensor.numel():
        return (name,)
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _mark_roles(model: ir.Model) -> None:
    """Say which initializers train: torch's parameters, wherever they are used, and nothing else."""
    found = roles(model)
    for name, value in model.graph.initializers.items():
        role = found[name]
        if value.meta.get(_PARAMETER):
            kept = role if role.trainable else Role.WEIGHT
            value.metadata_props[ROLE_MARK] = (kept if value.dtype in _FLOATS else Role.CONSTANT).name
        elif role is Role.STATISTIC:
            value.metadata_props[ROLE_MARK] = role.name
        else:
            mark_constant(value)


_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
# key of a value's notes to itself: whether it is one of torch's parameters
_PARAMETER = "portnet_torch.parameter"


# ---- names


def _name_sizes(graph: ir.Graph) -> None:
    """Call the free size N, and others after the input and axis that they come from."""
    names: dict[str, str] = {}
    for port in graph.inputs:
        for axis, size in enumerate(port.shape or ()):
            if isinstance(_as_number(size), ir.SymbolicDim) and size.value and size.value not in names:
                taken = BATCH in names.values()
                given = size.value if _SYMBOL.fullmatch(size.value) is None else ""
                names[size.value] = given or (BATCH if axis == 0 and not taken else f"{port.name}_{axis}")
    values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(size, names) for size in value.shape])


def _as_number(size: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """Return a size that torch has fixed as a number, though it still calls it a symbol."""
    return int(size.value) if isinstance(size, ir.SymbolicDim) and (size.value or "").isdigit() else size


def _renamed(size: int | ir.SymbolicDim, names: dict[str, str]) -> int | str | None:
    size = _as_number(size)
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    return _SYMBOL.sub(lambda found: names.get(found.group(), found.group()), size.value)


def _separate_outputs(graph: ir.Graph) -> None:
    """Give an output that is an input, a weight or another output too a node of its own."""
    for index, value in enumerate(list(graph.outputs)):
        if value.producer() is None or any(value is other for other in graph.outputs[:index]):
            node = ir.node("Identity", [value], name=f"output_{index}")
            node.outputs[0].name = f"output_{index}"
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.append(node)
            graph.outputs[index] = node.outputs[0]


def _name_outputs(graph: ir.Graph, program: ExportedProgram, places: Places) -> None:
    """Call a classifier's single output logits or probabilities, others by their keys or numbers."""
    taken = {value.name for value in graph.inputs} | set(graph.initializers)
    taken |= {output.name for node in graph for output in node.outputs}
    keys = _keys(program, len(graph.outputs))
    for value, key in zip(graph.outputs, keys, strict=True):
        name = key if len(keys) > 1 or key != "output_0" else _output_name(value)
        if name == value.name:
            continue
        name = name if name not in taken else f"{name}_out"
        for table in (places.traced, places.modules):
            if value.name in table:
                table[name] = table.pop(value.name)  # type: ignore[assignment]
        value.name = name


def _keys(program: ExportedProgram, count: int) -> list[str]:
    """Return a name for each output: the keys that lead to it in what the network returns, else its number."""
    specs = program.graph_signature.output_specs
    tree = program.call_spec.out_spec
    numbered = [f"output_{index}" for index in range(count)]
    if tree is None:
        return numbered
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(range(tree.num_leaves), tree))
    user = [spec.arg for spec in specs if spec.kind == OutputKind.USER_OUTPUT]
    tensors = [path for (path, _), argument in zip(paths, user, strict=False) if isinstance(argument, TensorArgument)]
    if len(tensors) != count:
        return numbered
    names = [
        "_".join(str(getattr(step, "key", getattr(step, "name", getattr(step, "idx", "")))) for step in path)
        for path in tensors
    ]
    return [name if name.isidentifier() else number for name, number in zip(names, numbered, strict=True)]


def _output_name(value: ir.Value) -> str:
    producer = value.producer()
    is_vector = value.shape is not None and len(value.shape) == 2 and value.dtype in _FLOATS
    if producer is not None and producer.op_type == "Softmax":
        return "probabilities"
    return "logits" if is_vector else "output"


def _believe(graph: ir.Graph, traced: dict[str | None, ir.Shape | None]) -> None:
    """Take the sizes that torch traced: the standard's rules cannot tell all of them."""
    for value in (output for node in graph for output in node.outputs):
        known = traced.get(value.name)
        if known is not None and (value.shape is None or len(value.shape) == len(known)):
            value.shape = known


def _forget_exporter(model: ir.Model) -> None:
    """Drop the exporter's notes: source lines, stacks and paths of the machine that it ran on."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(output for node in graph for output in node.outputs)]
    for holder in (model, graph, *graph, *values):
        holder.metadata_props.clear()
        holder.doc_string = None
