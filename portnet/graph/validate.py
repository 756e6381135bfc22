"""Checks of a parsed model before it becomes a graph: a file is untrusted input.

What is wrong is said in one line with the name of the node or tensor. Order alone is repaired: nodes that stand before
what they read are sorted.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence, Set

import onnx
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.storage import byte_size

__all__ = ["SCALARS", "check_graph", "check_model", "check_tensor"]

MAX_DIM = 1 << 40
# types of attributes of which nothing but numbers and strings is read
SCALARS = frozenset(
    map(onnx.AttributeProto.AttributeType.Value, ("INT", "INTS", "FLOAT", "FLOATS", "STRING", "STRINGS"))
)
_TYPES = {int(dtype): dtype for dtype in ir.DataType if dtype != ir.DataType.UNDEFINED}
_COMPLEX = frozenset({ir.DataType.COMPLEX64, ir.DataType.COMPLEX128})
_TYPED_FIELDS = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.COMPLEX64: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
    ir.DataType.STRING: "string_data",
}


def check_model(proto: onnx.ModelProto) -> None:
    """Check imports, names and order of a model, and of its functions. Tensors are checked by `check_tensor`.

    Raises:
        ModelError: no graph, no operator sets, names that clash or are missing, a cycle.
    """
    if not proto.HasField("graph"):
        raise ModelError("model: holds no graph, so it is no ONNX file")
    if not proto.graph.output:
        raise ModelError("model: the graph has no outputs")
    imports = {entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in proto.opset_import}
    if not imports and proto.ir_version < 3:
        proto.opset_import.add(domain="", version=1)
    elif not imports:
        raise ModelError("model: imports no operator set, so its nodes have no meaning. Export it anew.")
    for domain, version in imports.items():
        if not 0 < version < 1 << 31:
            raise ModelError(f"model: operator set {domain or 'ai.onnx'!r} got version {version}, expected 1 or more")
    check_graph(proto.graph, frozenset())
    for function in proto.functions:
        _check_nodes(function.node, set(function.input), frozenset(), f"function {function.name!r}")
        _check_outputs(function.output, function.node, set(function.input), f"function {function.name!r}")


def check_graph(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    """Check names and order of a graph and of its subgraphs; sort its nodes if they stand out of order.

    Args:
        graph: the graph; its nodes may be sorted in place.
        outer: names that outer graphs give.

    Raises:
        ModelError: a name written twice, or read and never written, or a cycle.
    """
    where = f"graph {graph.name!r}"
    if graph.sparse_initializer:
        raise ModelError(f"{where}: sparse initializers are not supported. Store them dense.")
    _check_unique([value.name for value in graph.input], f"{where}: input")
    _check_unique([tensor.name for tensor in graph.initializer], f"{where}: initializer")
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_sizes(value)
    given = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    if "" in given:
        raise ModelError(f"{where}: an input or initializer has no name")
    _check_nodes(graph.node, given, outer, where)
    _check_outputs([value.name for value in graph.output], graph.node, given | outer, where)


def _check_sizes(value: onnx.ValueInfoProto) -> None:
    """Let a negative size, which some exporters write for a free one, be unknown; refuse an absurd one."""
    kind = value.type
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    for dim in kind.tensor_type.shape.dim if kind.HasField("tensor_type") else ():
        if dim.dim_value < 0:
            dim.ClearField("dim_value")
        elif dim.dim_value > MAX_DIM:
            raise ModelError(f"tensor {value.name!r}: got a size of {dim.dim_value}, expected at most {MAX_DIM}")


def _check_unique(names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"{what} {name!r} is given twice")
        seen.add(name)


def _check_outputs(
    names: Sequence[str], nodes: Sequence[onnx.NodeProto], given: set[str] | frozenset[str], where: str
) -> None:
    written = {output for node in nodes for output in node.output}
    for name in names:
        if not name or (name not in written and name not in given):
            raise ModelError(f"{where}: output {name!r} is never written")


def _check_nodes(nodes: Sequence[onnx.NodeProto], given: set[str], outer: frozenset[str], where: str) -> None:
    writers: dict[str, int] = {}
    held: list[onnx.GraphProto] = []
    for index, node in enumerate(nodes):
        if not node.op_type:
            raise ModelError(f"{where}: node {node.name!r} has no op type")
        for name in node.output:
            if name and (name in writers or name in given):
                raise ModelError(f"{where}: tensor {name!r} is written twice, by node {node.name!r} ({node.op_type})")
            if name:
                writers[name] = index
        held += _subgraphs(node)
    inside = outer | given | writers.keys()
    for subgraph in held:
        check_graph(subgraph, frozenset(inside))
    _check_order(nodes, writers, outer | given, where, bool(held))


def _check_order(
    nodes: Sequence[onnx.NodeProto], writers: dict[str, int], known: Set[str], where: str, nested: bool
) -> None:
    """Check that what nodes read is known from outside or written, and sort them unless it is written before."""
    reads = [_reads(node) for node in nodes] if nested else [node.input for node in nodes]
    # a name that is written here hides the same name outside
    ready, sorted_already = {*known, ""} - writers.keys(), True
    for node, names in zip(nodes, reads, strict=True):
        for name in names:
            if name in ready:
                continue
            if name not in writers:
                raise ModelError(
                    f"{where}: node {node.name!r} ({node.op_type}) reads tensor {name!r}, which nothing writes"
                )
            sorted_already = False
        ready.update(node.output)
    if not sorted_already:
        _sort(nodes, [{writers[name] for name in names if name in writers} for names in reads], where)


def _sort(nodes: Sequence[onnx.NodeProto], needed: list[set[int]], where: str) -> None:
    """Sort nodes so that each stands behind what it reads; of those that may come next, the first comes first."""
    readers: list[list[int]] = [[] for _ in nodes]
    for index, before in enumerate(needed):
        for writer in before:
            readers[writer].append(index)
    missing = [len(before) for before in needed]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        node = nodes[next(index for index, count in enumerate(missing) if count)]
        raise ModelError(f"{where}: node {node.name!r} ({node.op_type}) is part of a cycle")
    copies = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del nodes[:]  # type: ignore[attr-defined]
    nodes.extend(copies)  # type: ignore[attr-defined]


def _reads(node: onnx.NodeProto) -> list[str]:
    """Return the names that a node reads of its graph, by itself or in its subgraphs."""
    return [*filter(None, node.input), *(name for graph in _subgraphs(node) for name in _free_names(graph))]


def _free_names(graph: onnx.GraphProto) -> set[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {output for node in graph.node for output in node.output}
    read = {name for node in graph.node for name in _reads(node)} | {value.name for value in graph.output}
    return read - own


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    held: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        if attribute.type not in SCALARS:
            held += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    return held


def check_tensor(tensor: onnx.TensorProto, data_bytes: int | None = None) -> ir.DataType:
    """Check that a tensor's data has the size that its shape and type declare, before anything is allocated.

    Args:
        tensor: the tensor.
        data_bytes: size of its raw data where that lies elsewhere.

    Returns:
        Its element type.

    Raises:
        ModelError: an unknown type, a negative or absurd size, or data of another length.
    """
    dtype = _TYPES.get(tensor.data_type)
    if dtype is None:
        raise ModelError(f"tensor {tensor.name!r}: got data type {tensor.data_type}, which ONNX does not know")
    dims = list(tensor.dims)
    if dims and (min(dims) < 0 or max(dims) > MAX_DIM or math.prod(filter(None, dims)) >= 1 << 60):
        raise ModelError(f"tensor {tensor.name!r}: got shape {dims}, expected sizes that fit in memory")
    got, expected, unit = _lengths(tensor, dims, dtype, data_bytes)
    if got != expected:
        raise ModelError(
            f"tensor {tensor.name!r}: got {got} {unit}, expected {expected} for shape {dims} of {dtype.name}"
        )
    return dtype


def _lengths(
    tensor: onnx.TensorProto, dims: list[int], dtype: ir.DataType, data_bytes: int | None
) -> tuple[int, int, str]:
    if data_bytes is not None or (tensor.HasField("raw_data") and dtype != ir.DataType.STRING):
        got = len(tensor.raw_data) if data_bytes is None else data_bytes
        return got, (byte_size(dims, dtype) if dtype != ir.DataType.STRING else -1), "bytes"
    count = math.prod(dims)
    if dtype != ir.DataType.STRING and dtype.bitwidth < 8:
        count = byte_size(dims, dtype)
    field = _TYPED_FIELDS.get(dtype, "int32_data")
    return len(getattr(tensor, field)), count * (2 if dtype in _COMPLEX else 1), "entries"
