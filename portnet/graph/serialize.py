"""The border between files and graphs: protobuf is met here and nowhere else.

Weights stay where they are: those of a file are memory-mapped, those of bytes are views. A file is not trusted:
`portnet.graph.validate` checks it before it becomes a graph.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from portnet.errors import ModelError, PortNetError
from portnet.graph.adoption import adopt_constants
from portnet.graph.deserialize import deserialize
from portnet.graph.garbage import no_collection
from portnet.graph.storage import Buffer, External, MappedTensor, byte_size, map_file, roots_of
from portnet.graph.validate import SCALARS, check_model, check_tensor
from portnet.graph.wire import outline
from portnet.graph.write import save, serialize

__all__ = ["load", "parse", "save", "serialize"]


def load(path: str | os.PathLike[str]) -> Callable[[], ir.Model]:
    """Read an .onnx file; weights stay in the file, memory-mapped, until they are read.

    Returns:
        What makes a new graph of the file each time it is called.

    Raises:
        ModelError: no such file, not ONNX, truncated, inconsistent, or external data outside its folder.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"model: no such file: {path}")
    try:
        with open(path, "rb") as file:
            buffer = map_file(file)
    except OSError as error:
        raise ModelError(f"model: cannot read {path}: {error.strerror}") from error
    return _read(buffer, External(roots_of(path)), str(path))


def parse(data: bytes) -> Callable[[], ir.Model]:
    """Read a serialized ModelProto that carries its own weights; they are views of ``data``.

    Returns:
        What makes a new graph of it each time it is called.

    Raises:
        ModelError: not ONNX, truncated, inconsistent, or weights that lie in another file.
    """
    return _read(Buffer(data), External(), "model")


def _read(buffer: Buffer, external: External, where: str) -> Callable[[], ir.Model]:
    if not len(buffer):
        raise ModelError(f"{where}: the file is empty")
    try:
        parts = outline(buffer.data)
        proto = onnx.ModelProto.FromString(parts.light)
        check_model(proto)
        weights = dict(_weights(proto.graph, buffer, parts.regions, external))
        for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
            _check_attributes(nodes, external)
    except DecodeError as error:
        raise ModelError(f"{where}: not ONNX, or truncated: {_root_cause(error)}") from error
    except PortNetError as error:
        raise type(error)(f"{where}: {error}") from error
    return functools.partial(_graph, proto, weights, where)


def _graph(proto: onnx.ModelProto, weights: dict[str, ir.TensorProtocol], where: str) -> ir.Model:
    try:
        with no_collection():
            model = deserialize(proto, weights)
    except Exception as error:  # whatever a hostile file makes it raise
        raise ModelError(f"{where}: broken: {_root_cause(error)}") from error
    adopt_constants(model)
    return model


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())


def _weights(
    graph: onnx.GraphProto, file: Buffer, regions: dict[int, tuple[int, int]], external: External
) -> Iterator[tuple[str, ir.TensorProtocol]]:
    """Yield name and tensor of each initializer of the main graph whose data lies outside the parsed message."""
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            dtype, buffer, offset = _external(tensor, external)
        elif index in regions:
            offset, length = regions[index]
            dtype = check_tensor(tensor, length)
            buffer = file
        else:
            check_tensor(tensor)
            continue
        if dtype.bitwidth < 8:
            tensor.raw_data = bytes(buffer.data[offset : offset + byte_size(tensor.dims, dtype)])
        else:
            yield tensor.name, MappedTensor(buffer, offset, dtype, tuple(tensor.dims), tensor.name)


def _external(tensor: onnx.TensorProto, external: External) -> tuple[ir.DataType, Buffer, int]:
    """Find a tensor's external data, and let the tensor forget that it was external."""
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ModelError(f"tensor {tensor.name!r}: strings cannot be external data")
    dtype = check_tensor(tensor, _declared_bytes(tensor))
    entries = {entry.key: entry.value for entry in tensor.external_data}
    buffer, offset = external.region(entries, byte_size(tensor.dims, dtype), tensor.name)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return dtype, buffer, offset


def _declared_bytes(tensor: onnx.TensorProto) -> int:
    known = tensor.data_type in [int(dtype) for dtype in ir.DataType if dtype != ir.DataType.UNDEFINED]
    return byte_size(tensor.dims, ir.DataType(tensor.data_type)) if known else 0


def _check_attributes(nodes: Iterable[onnx.NodeProto], external: External) -> None:
    """Check the tensors that nodes hold, in subgraphs too; external data is read in."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type not in SCALARS:
                _check_attribute(node.name, attribute, external)


def _check_attribute(node: str, attribute: onnx.AttributeProto, external: External) -> None:
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
        raise ModelError(f"node {node!r}: sparse tensors are not supported. Store them dense.")
    graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    held = [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    for tensor in (*held, *(tensor for graph in graphs for tensor in graph.initializer)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            dtype, buffer, offset = _external(tensor, external)
            tensor.raw_data = bytes(buffer.data[offset : offset + byte_size(tensor.dims, dtype)])
        check_tensor(tensor)
    for graph in graphs:
        _check_attributes(graph.node, external)
