"""Holds a lowered graph against what ONNX says of it, before anything runs.

MXNet computes some integer results in float32 and gives some operators other shapes than ONNX's. A network in
which that happens is refused here, at the first tensor where both differ.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet_gluon.carriers import carried
from portnet_gluon.compat import mx, unprinted

if TYPE_CHECKING:
    from portnet_gluon.lower import GluonLowering
    from portnet_gluon.ops.registry import Symbol

__all__ = ["needs_probe", "reason", "verify"]

# layers that run on float32 whatever their shapes
_SOUND = frozenset(
    {
        *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Gemm", "Flatten"),
        *("BatchNormalization", "LRN", "Dropout", "Identity", "Concat", "Reshape", "Add", "Sub", "Mul", "Div"),
        *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid", "Softmax", "LogSoftmax"),
    }
)


# what MXNet says before its reason: operator, time, source file; and the comparison that failed
_PLACE = re.compile(r"(MXNetError: )?(Error in operator [^\s:]+: )?(\[[\d:]+\] \S+:\d+: )?")
_CHECKED = re.compile(r"^Check failed: .*?: (?=\S)")


# ops whose output shape the onnx package infers wrong
_MISINFERRED = frozenset({"STFT"})


def verify(walk: GluonLowering, outputs: list[Symbol]) -> None:
    """Check dtypes of all tensors, and shapes where the inputs' are fixed.

    Raises:
        UnsupportedError: MXNet's inference fails or disagrees.
    """
    bound = [(value, walk.values[value]) for node in walk.graph for value in node.outputs if value in walk.values]
    group = mx.sym.Group([*(symbol for _, symbol in bound), *outputs])
    known = set(group.list_inputs())
    types = _infer(walk.graph, group.infer_type)
    inputs = {name: shape for name, shape in _input_shapes(walk).items() if name in known}
    fixed = all(isinstance(size, int) for shape in inputs.values() for size in shape)
    shapes = _infer(walk.graph, group.infer_shape, **inputs) if fixed else [None] * len(types)
    for (value, _), dtype, shape in zip(bound, types, shapes, strict=False):
        _compare(value, dtype, shape)


def _infer(graph: ir.Graph, method: Any, **known: Any) -> Any:
    try:
        with unprinted():
            found = method(**known)[1]
    except Exception as error:  # its own MXNetError, and a bare Exception for tensors of more than 2**31 elements
        raise refusal(error, _named_in(error, graph)) from error
    if found is None:
        raise UnsupportedError("gluon: MXNet's inference left types or shapes open", engine="gluon")
    return found


def _input_shapes(walk: GluonLowering) -> dict[str, tuple[Any, ...]]:
    initializers = walk.graph.initializers
    return {
        value.name or "": ("?",) if value.shape is None else tuple(value.shape)
        for value in walk.graph.inputs
        if value.name not in initializers
    }


def _compare(value: ir.Value, dtype: Any, shape: Any) -> None:
    node = value.producer()
    where = f"gluon: {node.op_type} node {node.name!r}: output {value.name!r}" if node is not None else "gluon"
    expected_type = None if value.dtype is None else carried(str(value.dtype.numpy()))
    if expected_type is not None and np.dtype(dtype) != expected_type:
        raise UnsupportedError(f"{where} would be {np.dtype(dtype)}, expected {expected_type}", engine="gluon")
    if shape is None or value.shape is None or (node is not None and node.op_type in _MISINFERRED):
        return
    expected = [size if isinstance(size, int) else None for size in value.shape]
    if len(expected) != len(shape) or any(e not in (None, s) for e, s in zip(expected, shape, strict=True)):
        raise UnsupportedError(f"{where} would have shape {tuple(shape)}, expected {expected}", engine="gluon")


def needs_probe(walk: GluonLowering) -> bool:
    """Whether the graph has more than layers that are known to run on float32."""
    values = [value for node in walk.graph for value in node.outputs if value in walk.values]
    plain = all(value.dtype in (ir.DataType.FLOAT, None) for value in values)
    return not plain or any(node.op_type not in _SOUND for node in walk.graph)


def refusal(error: Exception, node: ir.Node | None) -> UnsupportedError:
    """Return the error of the node that MXNet refuses, in one line."""
    if node is None:
        return UnsupportedError(f"gluon: MXNet refuses the network: {reason(error)}", engine="gluon")
    why = _CHECKED.sub("", _PLACE.sub("", reason(error))).removeprefix("MXNetError: ").strip()
    opset = node.version or (node.graph.opset_imports.get(node.domain) if node.graph is not None else None)
    where = f"gluon: {node.op_type} (opset {opset}) node {node.name!r}"
    return UnsupportedError(f"{where}: MXNet: {why}", engine="gluon", op=node.op_type, node=node.name or "")


def _named_in(error: Exception, graph: ir.Graph) -> ir.Node | None:
    """Return the node of the operator that an error names; an operator's name begins with its node's."""
    found = re.search(r"Error in operator ([^\s:]+):", str(error))
    if found is None:
        return None
    fitting = [node for node in graph if node.name and found[1].startswith(node.name)]
    return max(fitting, key=lambda node: len(node.name or ""), default=None)


def reason(error: Exception) -> str:
    """Return the line of MXNet's error that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marked = [line for line in lines if "Check failed" in line or "Error in operator" in line]
    return (marked or lines)[-1]
