"""The border between files and graphs: protobuf is met here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from portnet.errors import ModelError, OutputError

__all__ = ["load", "parse", "save", "serialize"]


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Read an .onnx file; weights stay in the file, memory-mapped, until they are read."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"model: no such file: {path}")
    return parse(path.read_bytes())


def parse(data: bytes) -> ir.Model:
    """Read a serialized ModelProto."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"model: not ONNX, or truncated: {error}") from error
    if not proto.HasField("graph"):
        raise ModelError("model: holds no graph, so it is no ONNX file")
    return ir.serde.deserialize_model(proto)


def serialize(model: ir.Model) -> bytes:
    """Return the serialized ModelProto."""
    return ir.serde.serialize_model(model).SerializeToString()


def save(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write an .onnx file, whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(serialize(model))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
