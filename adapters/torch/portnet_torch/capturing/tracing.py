"""torch.export, with the batch free where the network lets it be."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from portnet.errors import InputError, UnsupportedError

__all__ = ["Trace", "as_arguments", "first_line", "trace"]

# batch to trace with: torch.export takes 0 and 1 for fixed
BATCH = 2


@dataclass(frozen=True)
class Trace:
    """A traced network.

    Attributes:
        program: what torch.export made of it.
        arguments: what it was traced with.
        notes: which sizes were fixed, and why.
    """

    program: ExportedProgram
    arguments: tuple[Any, ...]
    notes: tuple[str, ...]


def trace(native: torch.nn.Module, arguments: tuple[Any, ...], dynamic_batch: bool) -> Trace:
    """Trace a network that is in inference mode.

    Args:
        native: the network; not changed.
        arguments: what to call it with.
        dynamic_batch: whether axis 0 of each tensor stays free.

    Raises:
        InputError: the network itself does not run on the arguments.
        UnsupportedError: torch.export cannot trace it.
    """
    _check_runs(native, arguments)
    if not dynamic_batch:
        return Trace(_export(native, arguments, None), arguments, ())
    batched, notes = _batched(native, arguments)
    named = inspect.signature(native.forward).bind(*batched).arguments
    free = pytree.tree_map(_first_axis, dict(named))
    try:
        program = _export(native, batched, free)
    except UnsupportedError as error:
        program = _export(native, arguments, None)
        return Trace(program, arguments, (f"the batch is fixed: with a free one, {error}",))
    return Trace(program, batched, (*notes, *_fixed(program)))


def as_arguments(examples: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    """Return examples as the network takes them: arrays as tensors on its device, the rest as it is."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            leaf = torch.from_numpy(np.ascontiguousarray(leaf))
        return leaf.detach().to(device) if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(convert, tuple(examples))


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line of a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines[0]) > 20 or len(lines) == 1 else f"{lines[0]} {lines[1]}"
    return f"{type(error).__name__}: {text[:300]}"


def _check_runs(native: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
    try:
        with torch.no_grad():
            native(*arguments)
    except Exception as error:  # the network's own code may raise anything
        shapes = ", ".join(_describe(leaf) for leaf in pytree.tree_leaves(arguments))
        raise InputError(
            f"capture: {type(native).__name__} does not run on example inputs {shapes}: {first_line(error)}. "
            "Pass example inputs that it takes."
        ) from error


def _describe(leaf: Any) -> str:
    if isinstance(leaf, Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {'×'.join(map(str, leaf.shape)) or 'scalar'}"
    return repr(leaf)[:40]


def _batched(native: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return arguments of a batch of 2 where they have one of 1, if the network runs on that."""
    doubled = pytree.tree_map(_doubled, arguments)
    if all(new is old for new, old in zip(pytree.tree_leaves(doubled), pytree.tree_leaves(arguments), strict=True)):
        return arguments, ()
    try:
        with torch.no_grad():
            native(*doubled)
    except Exception as error:  # as above
        return arguments, (f"the batch is fixed at 1: with {BATCH}, the network raises {first_line(error)}",)
    return doubled, ()


def _doubled(leaf: Any) -> Any:
    return torch.cat([leaf] * BATCH) if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == 1 else leaf


def _first_axis(leaf: Any) -> Any:
    return {0: Dim.AUTO} if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] > 1 else None


def _export(native: torch.nn.Module, arguments: tuple[Any, ...], free: Any) -> ExportedProgram:
    try:
        return torch.export.export(native, arguments, dynamic_shapes=free, strict=False)
    except Exception as error:  # torch raises dozens of classes of its own
        raise UnsupportedError(
            f"torch.export cannot trace {type(native).__name__}: {first_line(error)}", engine="torch"
        ) from error


def _fixed(program: ExportedProgram) -> list[str]:
    """Say which inputs' first axis torch.export has fixed though it was asked to leave it free."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = []
    for name in program.graph_signature.user_inputs:
        value = nodes[name].meta.get("val") if isinstance(name, str) and name in nodes else None
        if isinstance(value, Tensor) and value.ndim and is_concrete_int(value.shape[0]) and value.shape[0] > 1:
            found.append(f"the batch is fixed at {value.shape[0]} for input {name!r}: the network's code depends on it")
    return found
