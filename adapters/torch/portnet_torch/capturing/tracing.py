"""torch.export, with the batch, and other sizes if asked for, free where the network lets them be."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from portnet.adapter import CaptureOptions
from portnet.errors import InputError, UnsupportedError
from portnet_torch.capturing.axes import dims, limits, pinned
from portnet_torch.capturing.calling import Call, plain_results
from portnet_torch.capturing.packed import recurrent_operations
from portnet_torch.capturing.replaced import Replacing, masks_as_given

__all__ = ["Trace", "first_line", "trace"]

# batch to trace with: torch.export takes 0 and 1 for fixed
BATCH = 2
# times that axes are found to be no free ones
_ROUNDS = 3


@dataclass(frozen=True)
class Trace:
    """A traced network.

    Attributes:
        program: what torch.export made of it.
        call: what it was traced with.
        notes: which sizes were fixed, and why.
    """

    program: ExportedProgram
    call: Call
    notes: tuple[str, ...]


def trace(native: torch.nn.Module, call: Call, options: CaptureOptions) -> Trace:
    """Trace a network that is in inference mode.

    Args:
        native: the network; not changed.
        call: what to call it with.
        options: say which axes of its inputs stay free.

    Raises:
        InputError: the network itself does not run on the arguments.
        UnsupportedError: torch.export cannot trace it.
    """
    _check_runs(native, call)
    with plain_results(native):
        if not options.dynamic_batch and not options.dynamic_sizes:
            return Trace(_export(native, call, None), call, ())
        batched, notes = _batched(native, call) if options.dynamic_batch else (call, ())
        try:
            program, more = _with_free_axes(native, batched, options)
            return Trace(program, batched, (*notes, *more, *limits(program)))
        except UnsupportedError as error:
            told = (f"all sizes are those of the example: with free ones, {error}",)
            return Trace(_export(native, call, None), call, told)


def _with_free_axes(
    native: torch.nn.Module, call: Call, options: CaptureOptions
) -> tuple[ExportedProgram, tuple[str, ...]]:
    """Trace with all axes free that may be; where that fails, with the batch alone.

    Raises:
        UnsupportedError: that fails too.
    """
    batch = call.map(lambda leaf: dims(leaf, options.dynamic_batch, False))
    free = call.map(lambda leaf: dims(leaf, options.dynamic_batch, options.dynamic_sizes))
    notes: tuple[str, ...] = ()
    try:
        program = _export(native, call, free)
        for _ in range(_ROUNDS):
            narrowed = _without(free, call, pinned(program))
            if _leaves(narrowed, call) == _leaves(free, call):
                break
            free = narrowed
            program = _export(native, call, free)
    except UnsupportedError as error:
        if _leaves(free, call) == _leaves(batch, call):
            raise
        program = _export(native, call, batch)
        notes = (f"sizes but the batch are those of the example: with free ones, {error}",)
    return program, (*notes, *(_fixed(program) if options.dynamic_batch else ()))


def _without(free: Call, call: Call, pinned: dict[int, set[int]]) -> Call:
    """Return what is free less axes of arguments, by their places."""
    numbered = iter(enumerate(_leaves(free, call)))

    def narrowed(leaf: Any) -> dict[int, Any] | None:
        place, axes = next(numbered)
        return {axis: dim for axis, dim in (axes or {}).items() if axis not in pinned.get(place, ())} or None

    return call.map(narrowed)


def _leaves(free: Call, call: Call) -> list[Any]:
    """Return what is said of each leaf of a call."""
    _, tree = pytree.tree_flatten((call.positional, call.named))
    return tree.flatten_up_to((free.positional, free.named))


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line of a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines[0]) > 20 or len(lines) == 1 else f"{lines[0]} {lines[1]}"
    return f"{type(error).__name__}: {text[:300]}"


def _check_runs(native: torch.nn.Module, call: Call) -> None:
    try:
        with torch.no_grad():
            call.of(native)
    except Exception as error:  # the network's own code may raise anything
        shapes = ", ".join(_describe(leaf) for leaf in call.leaves())
        raise InputError(
            f"capture: {type(native).__name__} does not run on example inputs {shapes}: {first_line(error)}. "
            "Pass example inputs that it takes."
        ) from error


def _describe(leaf: Any) -> str:
    if isinstance(leaf, Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {'×'.join(map(str, leaf.shape)) or 'scalar'}"
    return repr(leaf)[:40]


def _batched(native: torch.nn.Module, call: Call) -> tuple[Call, tuple[str, ...]]:
    """Return arguments of a batch of 2 where they have one of 1, if the network runs on that."""
    reason = ""
    for double in (_doubled, _doubled_with_states):
        doubled = call.map(double)
        if all(new is old for new, old in zip(doubled.leaves(), call.leaves(), strict=True)):
            return call, ()
        try:
            with torch.no_grad():
                doubled.of(native)
        except Exception as error:  # as above
            reason = reason or first_line(error)
            continue
        return doubled, ()
    return call, (f"the batch is fixed at 1: with {BATCH}, the network raises {reason}",)


def _doubled(leaf: Any) -> Any:
    return torch.cat([leaf] * BATCH) if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == 1 else leaf


def _doubled_with_states(leaf: Any) -> Any:
    """Double a recurrent state, (layers, batch, hidden), along its batch."""
    if not isinstance(leaf, Tensor) or leaf.ndim != 3:
        return _doubled(leaf)
    return torch.cat([leaf] * BATCH, 1) if leaf.shape[1] == 1 else leaf


def _export(native: torch.nn.Module, call: Call, free: Call | None) -> ExportedProgram:
    shapes = None
    if free is not None:
        shapes = dict(inspect.signature(native.forward).bind(*free.positional, **free.named).arguments)
        for name, parameter in inspect.signature(native.forward).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                shapes |= shapes.pop(name, {})
    try:
        # the order of an einsum's products must not depend on sizes
        with torch.backends.opt_einsum.flags(enabled=False), recurrent_operations(), Replacing(), masks_as_given():
            return torch.export.export(native, call.positional, call.named, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch raises dozens of classes of its own
        raise UnsupportedError(
            f"torch.export cannot trace {type(native).__name__}: {first_line(error)}", engine="torch"
        ) from error


def _fixed(program: ExportedProgram) -> list[str]:
    """Say which inputs' first axis torch.export has fixed though it was asked to leave it free."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = {name: nodes[name].meta.get("val") for name in program.graph_signature.user_inputs if name in nodes}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor) and value.ndim}
    batches = {str(value.shape[0]) for value in tensors.values() if not is_concrete_int(value.shape[0])}
    return [
        f"the batch is fixed at {value.shape[0]} for input {name!r}: the network's code depends on it"
        for name, value in tensors.items()
        if is_concrete_int(value.shape[0]) and value.shape[0] > 1 and not batches & set(map(str, value.shape[1:]))
    ]
