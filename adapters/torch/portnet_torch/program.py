"""A lowered network as torch.export's program, its free sizes free."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from portnet.errors import UnsupportedError
from portnet.graph.model import Model, Signature
from portnet_torch.dtypes import numpy_dtype, to_tensor
from portnet_torch.network import TorchLowered

__all__ = ["fixed_axes", "program_of"]

# sizes to trace with; torch.export takes 0 and 1 for fixed
BATCH, PIXELS, LENGTH = 3, 64, 16


def program_of(lowered: TorchLowered) -> ExportedProgram:
    """Trace a network in inference mode.

    Raises:
        UnsupportedError: torch.export cannot trace it: what it does depends on data, or an input is no tensor.
    """
    native, training = lowered.native, lowered.native.training
    ports = lowered.model.inputs
    arguments = tuple(_example(lowered.model, port) for port in ports)
    free = tuple(dict.fromkeys(_free(port), Dim.AUTO) or None for port in ports)
    try:
        with torch.no_grad():
            return torch.export.export(native.eval(), arguments, dynamic_shapes=free)
    except Exception as error:  # torch raises dozens of classes of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        raise UnsupportedError(
            f"torch: torch.export cannot trace the network: {type(error).__name__}: {lines[0]} Use the format code.",
            engine="torch",
        ) from error
    finally:
        native.train(training)


def fixed_axes(lowered: TorchLowered, program: ExportedProgram) -> list[str]:
    """Say which free sizes of the inputs the trace has fixed."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = [nodes[name] for name in program.graph_signature.user_inputs]
    found = []
    for port, node in zip(lowered.model.inputs, inputs, strict=True):
        shape = node.meta["val"].shape
        found += [
            f"{port.name}: axis {axis} is fixed at {shape[axis]}"
            for axis in _free(port)
            if isinstance(shape[axis], int)
        ]
    return found


def _free(port: Signature) -> list[int]:
    return [axis for axis, size in enumerate(port.shape or ()) if not isinstance(size, int)]


def _example(model: Model, port: Signature) -> Any:
    if port.shape is None or port.dtype in ("string", "unknown"):
        raise UnsupportedError(f"torch: torch.export cannot trace input {port}. Use the format code.", engine="torch")
    sizes = [size if isinstance(size, int) else _size(model, port.shape, axis) for axis, size in enumerate(port.shape)]
    return to_tensor(np.zeros(sizes, numpy_dtype(port.dtype)))


def _size(model: Model, shape: tuple[Any, ...], axis: int) -> int:
    first = model.inputs[0].shape
    if axis == 0 or (first and shape[axis] is not None and shape[axis] == first[0]):
        return BATCH
    return PIXELS if len(shape) == 4 and axis >= 2 else LENGTH
