"""`capture`: a network of torch becomes a `Model`, trainable, and what runs the original."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram
from torch.utils import _pytree as pytree

from portnet.adapter import CaptureOptions
from portnet.errors import InputError, PortNetError, UnsupportedError
from portnet.formats.captured import Captured, Source
from portnet.graph.travel import take_along
from portnet_torch.capturing.axes import limits
from portnet_torch.capturing.calling import Call, call_of, other_results
from portnet_torch.capturing.examples import examples_for
from portnet_torch.capturing.exporting import export
from portnet_torch.capturing.facts import device_of, facts_of, frozen, hidden
from portnet_torch.capturing.graph import Built, build
from portnet_torch.capturing.hosting import on_cpu
from portnet_torch.capturing.modes import inference_mode, quiet
from portnet_torch.capturing.original import Original
from portnet_torch.capturing.tracing import Trace, trace

__all__ = ["capture"]

WAY = "torch.export and torch's exporter"


def capture(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    """Return a network and what runs it; see `portnet.adapter.Adapter.capture`.

    Args:
        native: an nn.Module (a GraphModule is one), or an ExportedProgram, whose sizes are as it was exported.
        options: examples are the arguments of ``forward``: tensors or arrays, nested as the network takes them.

    Raises:
        InputError: the network is none, has weights without numbers, or does not run on the examples.
        UnsupportedError: torch.export or its exporter cannot take it.
    """
    if isinstance(native, nn.Module):
        _check_numbers(native)
    hosted = on_cpu(native) if isinstance(native, nn.Module) else native
    if hosted is not native:
        # code that names its device runs there alone
        with suppress(PortNetError):
            return _capture(hosted, options)
    return _capture(native, options)


def _check_numbers(native: nn.Module) -> None:
    empty = [name for name, tensor in [*native.named_parameters(), *native.named_buffers()] if tensor.is_meta]
    if empty:
        raise InputError(
            f"capture: got {_some(empty)} on the meta device, expected arrays that have numbers. Load the weights first"
        )


def _capture(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    notes: tuple[str, ...] = ()
    with quiet(), inference_mode(native):
        if isinstance(native, ExportedProgram):
            module, call = _module_of(native), _exported_call(native)
            traced = Trace(native, call, tuple(limits(native)))
        elif isinstance(native, nn.Module):
            module = native
            call, notes = _call(native, options)
            traced = trace(native, call, options)
            notes += _left_out(native, call)
        else:
            raise InputError(f"capture: got a {type(native).__name__}, expected an nn.Module or an ExportedProgram")
        name = facts_of(native).name
        traced, result = _exported(native, traced, call, options, name)
    paths = [path for path, submodule in module.named_modules() if not any(submodule.children())]
    inputs = [value.name or "" for value in result.model.graph.inputs]
    built = build(result.model, result.exported_program, name, paths)
    model = built.model
    _describe(model, native, built.stacked)
    notes += traced.notes + _notes(native, built) + facts_of(native).notes
    outputs = [port.name for port in model.outputs]
    given = options.examples is not None and not isinstance(native, ExportedProgram)
    source = Original(module, traced.call, inputs, outputs, result.exported_program, built.places, given)
    return Captured(model, WAY, notes), source


def _call(native: nn.Module, options: CaptureOptions) -> tuple[Call, tuple[str, ...]]:
    if options.examples is not None:
        return call_of(native, options.examples, device_of(native)), ()
    examples, notes = examples_for(native)
    return call_of(native, examples, device_of(native)), notes


def _exported(native: Any, traced: Trace, call: Call, options: CaptureOptions, name: str) -> tuple[Trace, ONNXProgram]:
    """Translate a traced network; one that the exporter cannot translate with free sizes, with those of the example.

    Raises:
        UnsupportedError: it can do neither.
    """
    try:
        return traced, export(traced.program, name)
    except UnsupportedError as error:
        if isinstance(native, ExportedProgram) or not (options.dynamic_batch or options.dynamic_sizes):
            raise
        try:
            fixed = trace(native, call, replace(options, dynamic_batch=False, dynamic_sizes=False))
            result = export(fixed.program, name)
        except PortNetError:
            raise error from None
        told = f"all sizes are those of the example: with free ones, {error}"
        return Trace(fixed.program, fixed.call, (*traced.notes, told)), result


def _left_out(native: nn.Module, call: Call) -> tuple[str, ...]:
    """Say which results are no tensors: a graph gives none."""
    with torch.no_grad():
        found = other_results(call.of(native))
    return (f"results that are no tensors are left out: {_some(found)}",) if found else ()


def _module_of(program: ExportedProgram) -> nn.Module:
    return program.module()


def _exported_call(program: ExportedProgram) -> Call:
    """Return what a program was exported with, or stand-ins of the same structure."""
    if program.example_inputs:
        return Call(*program.example_inputs)
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    leaves = [_stand_in(nodes.get(name)) if isinstance(name, str) else name for name in _inputs(program)]
    return Call(*pytree.tree_unflatten(leaves, program.call_spec.in_spec))


def _inputs(program: ExportedProgram) -> tuple[Any, ...]:
    return tuple(program.graph_signature.user_inputs)


def _stand_in(node: torch.fx.Node | None) -> Any:
    value = None if node is None else node.meta.get("val")
    if not isinstance(value, Tensor):
        return value
    sizes = [size if isinstance(size, int) else size.node.hint or 2 for size in value.shape]
    return torch.zeros(sizes, dtype=value.dtype)


def _describe(model: Any, native: Any, stacked: Mapping[str, Sequence[str]]) -> None:
    facts = facts_of(native)
    model.labels, model.preprocessing = facts.labels, facts.preprocessing
    kept = frozen(native) if isinstance(native, nn.Module) else {}
    if "parameters" in kept:
        # what one weight of a recurrent layer holds is frozen together
        whole = [name for name, parts in stacked.items() if parts and set(parts) <= set(kept["parameters"])]
        kept["parameters"] += [name for name in whole if name not in kept["parameters"]]
    model.metadata.provenance = {
        "framework": f"torch {torch.__version__}",
        "captured": WAY,
        **(facts.provenance or {}),
        **({"frozen": kept} if kept else {}),
    }
    if facts.carried is not None:
        take_along(model, facts.carried)


def _notes(native: Any, built: Built) -> tuple[str, ...]:
    if not isinstance(native, nn.Module):
        return ()
    notes, kept = hidden(native), frozen(native)
    if "parameters" in kept:
        notes.append(f"{len(kept['parameters'])} parameters do not require gradients in torch")
    if "statistics" in kept:
        notes.append(f"{len(kept['statistics']) // 2} batch norms are in inference mode inside a network that trains")
    held = {name for names in built.stacked.values() for name in names}
    if held:
        notes.append(f"{len(held)} weights of recurrent layers are stacked as ONNX has them, in {_some(built.stacked)}")
    present = held.union(built.model.ir.graph.initializers)
    unread = [name for name, _ in native.named_parameters() if name not in present]
    if unread:
        scalars = sum(native.get_parameter(name).numel() for name in unread)
        notes.append(f"{scalars:,} parameters that inference does not read are left out: {_some(unread)}")
    return tuple(notes)


def _some(names: Collection[str]) -> str:
    first = ", ".join(list(names)[:3])
    return first + (f" and {len(names) - 3} more" if len(names) > 3 else "")
