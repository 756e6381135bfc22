"""BatchNormalization in TensorFlow's graphs, which Keras writes as γ·rsqrt(σ² + ε)·x + (β − μ·γ·rsqrt(σ² + ε))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnet_keras.graphdef import Graph

__all__ = ["STAND_IN", "fuse_batch_norms", "handlers"]

# an op that says nothing, for the ranks that FusedBatchNormV3 does not take
STAND_IN = "IdentityN"
_FUSED = "FusedBatchNormV3"


@dataclass(frozen=True)
class _Norm:
    x: str
    mean: str
    variance: str
    gamma: str | None
    beta: str | None
    epsilon: float
    axis: int
    channels: int
    rank: int


def fuse_batch_norms(graph: Graph) -> dict[str, tuple[int, float]]:
    """Replace the arithmetic of every BatchNormalization of variables by one op.

    Returns:
        For each op that stands in for one, by its name, the axis and ε.
    """
    stand_ins = {}
    for node in list(graph.proto.node):
        found = _match(graph, node)
        if found is None:
            continue
        if found.rank in (4, 5) and found.axis in (1, found.rank - 1):
            _fuse(graph, node, found)
        else:
            _stand_in(graph, node, found)
            stand_ins[node.name] = (found.axis, found.epsilon)
    return stand_ins


# ---- the pattern


def _match(graph: Graph, node: Any) -> _Norm | None:
    """Return what a sum computes, if it is the last step of a BatchNormalization."""
    if node.op not in ("Add", "AddV2") or not _is_float32(node):
        return None
    for scaled, shift in (node.input, reversed(node.input)):
        product = graph.node(scaled)
        if product is None or product.op != "Mul":
            continue
        for x, factor in (product.input, reversed(product.input)):
            found = _with_factor(graph, x, factor, shift)
            if found is not None:
                return found
    return None


def _with_factor(graph: Graph, x: str, factor: str, shift: str) -> _Norm | None:
    scale = _scale(graph, factor)
    moved = _shift(graph, shift, graph.source(factor))
    if scale is None or moved is None:
        return None
    (gamma, variance, epsilon), (beta, mean) = scale, moved
    parts = [_vector(graph, name) for name in (mean, variance, gamma, beta) if name is not None]
    shape = graph.shape(x)
    if shape is None or None in parts:
        return None
    places = {(part[1], part[2]) for part in parts if part is not None}
    if len(places) != 1:
        return None
    ((behind, channels),) = places
    axis = len(shape) - 1 - behind
    if axis < 1 or shape[axis] != channels:
        return None
    mean_, variance_, *rest = [part[0] for part in parts if part is not None]
    gamma_ = rest.pop(0) if gamma is not None else None
    beta_ = rest.pop(0) if beta is not None else None
    return _Norm(x, mean_, variance_, gamma_, beta_, epsilon, axis, channels, len(shape))


def _scale(graph: Graph, name: str) -> tuple[str | None, str, float] | None:
    """Return γ, σ² and ε of γ·rsqrt(σ² + ε); γ may be left out."""
    node = graph.node(name)
    if node is None:
        return None
    if node.op == "Rsqrt":
        total = graph.node(node.input[0])
        if total is None or total.op not in ("Add", "AddV2"):
            return None
        for variance, constant in (total.input, reversed(total.input)):
            epsilon = graph.number(constant)
            if epsilon is not None:
                return None, variance, epsilon
        return None
    if node.op != "Mul":
        return None
    for root, gamma in (node.input, reversed(node.input)):
        first = graph.node(root)
        found = _scale(graph, root) if first is not None and first.op == "Rsqrt" else None
        if found is not None:
            return gamma, found[1], found[2]
    return None


def _shift(graph: Graph, name: str, factor: tuple[str, int]) -> tuple[str | None, str] | None:
    """Return β and μ of β − μ·factor, or of −μ·factor, where there is no β."""
    node = graph.node(name)
    if node is None or node.op not in ("Sub", "Mul"):
        return None
    product = graph.node(node.input[1]) if node.op == "Sub" else node
    if product is None or product.op != "Mul":
        return None
    beta = node.input[0] if node.op == "Sub" else None
    for mean, other in (product.input, reversed(product.input)):
        if graph.source(other) != factor:
            continue
        if beta is not None:
            return beta, mean
        negative = graph.node(mean)
        if negative is not None and negative.op == "Neg":
            return None, negative.input[0]
    return None


def _vector(graph: Graph, name: str) -> tuple[str, int, int] | None:
    """Return a variable of one axis, how many axes of 1 it has been given behind that, and its length."""
    variable, output = graph.source(name, "Reshape")
    if variable not in graph.variables or output or graph.variables[variable].array.ndim != 1:
        return None
    shape, length = graph.shape(name), len(graph.variables[variable].array)
    if not shape or shape.count(1) < len(shape) - 1 or length not in shape:
        return None
    place = shape.index(length) if length > 1 else len(shape) - 1
    return variable, len(shape) - 1 - place, length


def _is_float32(node: Any) -> bool:
    return bool(node.attr["T"].type == 1)  # types_pb2.DT_FLOAT


# ---- what replaces it


def _inputs(graph: Graph, name: str, norm: _Norm) -> list[str]:
    gamma = norm.gamma or graph.add_constant(f"{name}/gamma", np.ones(norm.channels, np.float32))
    beta = norm.beta or graph.add_constant(f"{name}/beta", np.zeros(norm.channels, np.float32))
    return [norm.x, gamma, beta, norm.mean, norm.variance]


def _fuse(graph: Graph, node: Any, norm: _Norm) -> None:
    inputs = _inputs(graph, node.name, norm)
    spatial = {4: "HW", 5: "DHW"}[norm.rank]
    layout = f"NC{spatial}" if norm.axis == 1 else f"N{spatial}C"
    _replace(graph, node, _FUSED, inputs)
    node.attr["U"].type = node.attr["T"].type
    node.attr["epsilon"].f = norm.epsilon
    node.attr["data_format"].s = layout.encode()
    node.attr["is_training"].b = False


def _stand_in(graph: Graph, node: Any, norm: _Norm) -> None:
    kind = node.attr["T"].type
    _replace(graph, node, STAND_IN, _inputs(graph, node.name, norm))
    del node.attr["T"]
    node.attr["T"].list.type.extend([kind] * 5)


def _replace(graph: Graph, node: Any, op: str, inputs: list[str]) -> None:
    """Turn a node into another one, of which only the first output is read."""
    kept = node.attr["_output_shapes"].list.shape[0] if "_output_shapes" in node.attr else None
    node.op = op
    del node.input[:]
    node.input.extend(inputs)
    if kept is not None:
        shape = type(kept).FromString(kept.SerializeToString())
        del node.attr["_output_shapes"]
        node.attr["_output_shapes"].list.shape.append(shape)


# ---- tf2onnx


def handlers(stand_ins: Mapping[str, tuple[int, float]]) -> dict[str, tuple[Any, list[Any]]]:
    """Return tf2onnx's handlers for the ops that stand in for BatchNormalization."""

    def translate(ctx: Any, node: Any, name: str, args: Any) -> None:
        if node.name not in stand_ins:
            given, made = list(node.input), list(node.output)
            ctx.remove_node(node.name)
            for old, new in zip(made, given, strict=True):
                ctx.replace_all_inputs(old, new)
            return
        axis, epsilon = stand_ins[node.name]
        rank = len(ctx.get_shape(node.input[0]))
        shape, dtype = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
        order = [0, axis, *(other for other in range(1, rank) if other != axis)]
        inputs, output = list(node.input), node.output[0]
        ctx.remove_node(node.name)
        if order != list(range(rank)):
            inputs[0] = ctx.make_node("Transpose", [inputs[0]], attr={"perm": order}).output[0]
        made = ctx.make_node("BatchNormalization", inputs, attr={"epsilon": epsilon}, name=f"{name}/batchnorm")
        back = [order.index(other) for other in range(rank)]
        last = ctx.make_node(
            "Transpose" if back != list(range(rank)) else "Identity",
            [made.output[0]],
            attr={"perm": back} if back != list(range(rank)) else None,
            outputs=[output],
            shapes=[shape],
            dtypes=[dtype],
        )
        last.skip_conversion = made.skip_conversion = True

    return {STAND_IN: (translate, [])}
