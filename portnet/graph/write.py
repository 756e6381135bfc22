"""Writes a model, weights streamed one at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import onnx
import onnx_ir as ir

from portnet.errors import ModelError, OutputError
from portnet.graph.wire import GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW_DATA, field_header

__all__ = ["EXTERNAL_BYTES", "atomic_file", "save", "serialize"]

# protobuf cannot hold 2 GiB; the graph around the weights takes its share
EXTERNAL_BYTES = (2 << 30) - (64 << 20)
# smaller tensors stay in the .onnx file when the others go to the data file
MIN_EXTERNAL_BYTES = 1024
# memory maps begin at pages
ALIGNMENT = 4096


def serialize(model: ir.Model) -> bytes:
    """Return the serialized ModelProto, weights included.

    Raises:
        ModelError: it is larger than protobuf can hold, or cannot be written.
    """
    size = _weight_bytes(model)
    if size >= EXTERNAL_BYTES:
        raise ModelError(f"model: got {size:,} bytes of weights, expected less than 2 GiB. Save it to a file.")
    buffer = io.BytesIO()
    _write(model, buffer, [_embedded(value) for value in model.graph.initializers.values()])
    return buffer.getvalue()


def save(model: ir.Model, path: str | os.PathLike[str], *, external_bytes: int = EXTERNAL_BYTES) -> None:
    """Write an .onnx file, whole or not at all.

    Args:
        model: the model.
        path: where to.
        external_bytes: weights that come to so many bytes go to ``<name>.data`` beside it.

    Raises:
        OutputError: the path cannot be written.
        ModelError: the graph cannot be serialized.
    """
    path = Path(path)
    if _weight_bytes(model) < external_bytes:
        entries = [_embedded(value) for value in model.graph.initializers.values()]
        with atomic_file(path) as file:
            _write(model, file, entries)
        return
    data_path = path.with_name(path.name + ".data")
    with atomic_file(path) as file, atomic_file(data_path) as data:
        _write(model, file, [_moved(value, data, data_path.name) for value in model.graph.initializers.values()])


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of ``path`` when the block ends well.

    Raises:
        OutputError: the path cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder. Name a file.")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


# writes a TensorProto of a known length
_Entry = tuple[int, Callable[[IO[bytes]], None]]


def _write(model: ir.Model, file: IO[bytes], entries: list[_Entry]) -> None:
    """Write a ModelProto whose initializers are ``entries``."""
    proto = _without_data(model)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    headers = [field_header(GRAPH_INITIALIZER, length) for length, _ in entries]
    size = len(graph) + sum(len(header) + entry[0] for header, entry in zip(headers, entries, strict=True))
    file.write(proto.SerializeToString())
    file.write(field_header(MODEL_GRAPH, size))
    file.write(graph)
    for header, (_, write) in zip(headers, entries, strict=True):
        file.write(header)
        write(file)


def _without_data(model: ir.Model) -> onnx.ModelProto:
    light = model.clone()
    for value in light.graph.initializers.values():
        if value.const_value is None:
            raise ModelError(f"initializer {value.name!r} has no data")
        value.const_value = None
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it warns of each initializer without data
    try:
        return ir.serde.serialize_model(light)
    except Exception as error:
        raise ModelError(f"model: cannot be serialized: {error}") from error
    finally:
        logger.setLevel(level)


def _embedded(value: ir.Value) -> _Entry:
    """Return the entry of an initializer that holds its data itself."""
    tensor = _tensor_of(value)
    if tensor.dtype == ir.DataType.STRING:
        return _plain(ir.serde.serialize_tensor(tensor), value)
    head = _head(value).SerializeToString() + field_header(TENSOR_RAW_DATA, tensor.nbytes)

    def write(file: IO[bytes]) -> None:
        file.write(head)
        file.write(_data(tensor))

    return len(head) + tensor.nbytes, write


def _moved(value: ir.Value, data: IO[bytes], location: str) -> _Entry:
    """Write an initializer's data to the data file, and return the entry that points there."""
    tensor = _tensor_of(value)
    if tensor.dtype == ir.DataType.STRING or tensor.nbytes < MIN_EXTERNAL_BYTES:
        return _embedded(value)
    data.write(bytes(-data.tell() % ALIGNMENT))
    head = _head(value)
    head.data_location = onnx.TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", str(data.tell())), ("length", str(tensor.nbytes))):
        head.external_data.add(key=key, value=text)
    data.write(_data(tensor))
    return _plain(head, value)


def _plain(proto: onnx.TensorProto, value: ir.Value) -> _Entry:
    proto.name = value.name or ""
    message = proto.SerializeToString()

    def write(file: IO[bytes]) -> None:
        file.write(message)

    return len(message), write


def _head(value: ir.Value) -> onnx.TensorProto:
    tensor = _tensor_of(value)
    return onnx.TensorProto(name=value.name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))


def _data(tensor: ir.TensorProtocol) -> bytes:
    data = tensor.tobytes()
    if len(data) != tensor.nbytes:
        raise ModelError(f"tensor {tensor.name!r}: got {len(data)} bytes, expected {tensor.nbytes} for its shape")
    return data


def _tensor_of(value: ir.Value) -> ir.TensorProtocol:
    if value.const_value is None:
        raise ModelError(f"initializer {value.name!r} has no data")
    return value.const_value


def _weight_bytes(model: ir.Model) -> int:
    tensors = [_tensor_of(value) for value in model.graph.initializers.values()]
    return sum(tensor.nbytes for tensor in tensors if tensor.dtype != ir.DataType.STRING)
