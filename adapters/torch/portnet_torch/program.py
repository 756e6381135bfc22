"""A lowered network as torch.export's program, its free sizes free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from portnet.errors import UnsupportedError
from portnet.graph.model import Model, Signature
from portnet_torch.capturing.modes import quiet
from portnet_torch.dtypes import numpy_dtype, to_tensor
from portnet_torch.network import TorchLowered

__all__ = ["limits", "program_of"]

# sizes to trace with; torch.export takes 0 and 1 for fixed
BATCH, PIXELS = 3, 64
# the least size that torch.export takes for free; a program runs at 1 all the same, where no guard forbids it
SMALLEST = 2
# of other axes, in this order until one is long enough: words, frames, sound
LENGTHS = (16, 256, 1024, 16000)


def program_of(lowered: TorchLowered) -> ExportedProgram:
    """Trace a network in inference mode.

    Raises:
        UnsupportedError: torch.export cannot trace it: what it does depends on data, or an input is no tensor.
    """
    native, training = lowered.native, lowered.native.training
    free = tuple(dict.fromkeys(_free(port), Dim.AUTO) or None for port in lowered.model.inputs)
    refusals = []
    try:
        for arguments in _examples(lowered.model):
            try:
                with torch.no_grad(), quiet():
                    return torch.export.export(native.eval(), arguments, dynamic_shapes=free)
            except Exception as error:  # torch raises dozens of classes of its own
                refusals.append(error)
    finally:
        native.train(training)
    first = refusals[0]
    lines = [line.strip() for line in str(first).splitlines() if line.strip()] or [""]
    raise UnsupportedError(
        f"torch: torch.export cannot trace the network: {type(first).__name__}: {lines[0]} Use the format code.",
        engine="torch",
    ) from first


def limits(lowered: TorchLowered, program: ExportedProgram) -> list[str]:
    """Say which free sizes of the inputs the trace has fixed, and what the others must be at least."""
    found = []
    for port, shape in zip(lowered.model.inputs, _traced_shapes(program), strict=True):
        for axis in _free(port):
            size = shape[axis]
            if isinstance(size, int):
                found.append(f"{port.name}: axis {axis} is fixed at {size}")
            elif (known := program.range_constraints.get(size.node.expr)) is not None and known.lower > SMALLEST:
                found.append(f"{port.name}: axis {axis} is at least {known.lower}")
    return found + _unrolled(lowered, program)


def _traced_shapes(program: ExportedProgram) -> list[Any]:
    """Return the shape of each input, a size that stays free as a symbol."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [nodes[name].meta["val"].shape for name in program.graph_signature.user_inputs]


def _unrolled(lowered: TorchLowered, program: ExportedProgram) -> list[str]:
    """Say at which sizes the program runs, if it refuses twice those that it was traced at."""
    ports, traced = lowered.model.inputs, program.example_inputs[0]
    shapes = [
        [size if isinstance(free, int) else size * 2 for free, size in zip(shape, x.shape, strict=True)]
        for shape, x in zip(_traced_shapes(program), traced, strict=True)
    ]
    try:
        with torch.inference_mode():
            program.module()(*(torch.zeros(shape, dtype=x.dtype) for shape, x in zip(shapes, traced, strict=True)))
    except AssertionError:  # a guard; what else may be raised is the network's own and no limit of the trace
        sizes = ", ".join(f"{port.name} {tuple(x.shape)}" for port, x in zip(ports, traced, strict=True))
        return [f"runs at sizes near those of the trace alone: {sizes}; other formats keep free sizes free"]
    except Exception:
        return []
    return []


def _free(port: Signature) -> list[int]:
    return [axis for axis, size in enumerate(port.shape or ()) if not isinstance(size, int)]


def _examples(model: Model) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield arguments to trace with, longer and longer where an axis has no usual size."""
    seen = set()
    for length in LENGTHS:
        shapes = tuple(_shape(model, port, length) for port in model.inputs)
        if shapes not in seen:
            seen.add(shapes)
            ports = zip(model.inputs, shapes, strict=True)
            yield tuple(to_tensor(np.zeros(shape, numpy_dtype(port.dtype))) for port, shape in ports)


def _shape(model: Model, port: Signature, length: int) -> tuple[int, ...]:
    if port.shape is None or port.dtype in ("string", "unknown"):
        raise UnsupportedError(f"torch: torch.export cannot trace input {port}. Use the format code.", engine="torch")
    return tuple(
        size if isinstance(size, int) else _size(model, port.shape, axis, length)
        for axis, size in enumerate(port.shape)
    )


def _size(model: Model, shape: tuple[Any, ...], axis: int, length: int) -> int:
    first = model.inputs[0].shape
    if axis == 0 or (first and shape[axis] is not None and shape[axis] == first[0]):
        return BATCH
    return PIXELS if len(shape) == 4 and axis >= 2 else length
