"""A parsed model as a graph.

`onnx_ir.serde` does it for every model there is, with a stack of scopes and an error's context at each step. A graph
without subgraphs and functions, checked by `portnet.graph.validate`, needs neither.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from portnet.graph.shared import shared_shape

__all__ = ["deserialize"]

# reading raw data copies them
MAX_BYTES = 4096
_Kind = ir.AttributeType
_PLAIN = {
    int(_Kind.INT): (_Kind.INT, lambda proto: proto.i),
    int(_Kind.INTS): (_Kind.INTS, lambda proto: proto.ints),
    int(_Kind.FLOAT): (_Kind.FLOAT, lambda proto: proto.f),
    int(_Kind.FLOATS): (_Kind.FLOATS, lambda proto: proto.floats),
    int(_Kind.STRING): (_Kind.STRING, lambda proto: _text(proto.s)),
    int(_Kind.TENSOR): (_Kind.TENSOR, lambda proto: _tensor(proto.t)),
}
_HOLDING = (int(_Kind.GRAPH), int(_Kind.GRAPHS))
_TYPES = {int(dtype): dtype for dtype in ir.DataType}
# element types whose raw data numpy reads as they are
_RAW = {
    int(dtype): dtype.numpy().newbyteorder("<")
    for dtype in ir.DataType
    if dtype not in (ir.DataType.UNDEFINED, ir.DataType.STRING) and dtype.numpy().isbuiltin == 1
}


def deserialize(proto: onnx.ModelProto, weights: dict[str, ir.TensorProtocol]) -> ir.Model:
    """Return a checked model as a graph.

    Args:
        proto: names are unique and nodes in order, as `portnet.graph.validate.check_model` leaves them.
        weights: initializers of the main graph whose data lie elsewhere, by name.
    """
    if not _is_plain(proto):
        with _quiet(logging.getLogger("onnx_ir")):
            model = ir.serde.deserialize_model(proto)
        for name, tensor in weights.items():
            model.graph.initializers[name].const_value = tensor
        return model
    graph = _graph(proto.graph, weights)
    graph.opset_imports.update((entry.domain, entry.version) for entry in proto.opset_import)
    return ir.Model(
        graph,
        ir_version=proto.ir_version,
        producer_name=_given(proto, "producer_name"),
        producer_version=_given(proto, "producer_version"),
        domain=_given(proto, "domain"),
        model_version=_given(proto, "model_version"),
        doc_string=_given(proto, "doc_string"),
        metadata_props=_entries(proto.metadata_props),
    )


def _is_plain(proto: onnx.ModelProto) -> bool:
    graph = proto.graph
    if proto.functions or graph.quantization_annotation or getattr(proto, "configuration", ()):
        return False
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type in _HOLDING:
                return False
    return not any(getattr(node, "device_configurations", ()) for node in graph.node)


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Errors are raised here, not logged."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _graph(proto: onnx.GraphProto, weights: dict[str, ir.TensorProtocol]) -> ir.Graph:
    infos = {info.name: info for info in proto.value_info}
    inputs = [_described(ir.Value(name=info.name), info) for info in proto.input]
    values = {value.name or "": value for value in inputs}
    initializers = []
    for tensor in proto.initializer:
        initializers.append(_initializer(values, weights.get(tensor.name) or _tensor(tensor), tensor.name, infos))
    nodes = [_node(node, values, infos) for node in proto.node]
    outputs = [_described(values[info.name], info) for info in proto.output]
    return ir.Graph(
        inputs,
        outputs,
        nodes=nodes,
        initializers=initializers,
        doc_string=_given(proto, "doc_string"),
        name=_given(proto, "name"),
        metadata_props=_entries(proto.metadata_props),
    )


def _initializer(
    values: dict[str, ir.Value], tensor: ir.TensorProtocol, name: str, infos: dict[str, onnx.ValueInfoProto]
) -> ir.Value:
    value = values.get(name)
    if value is None:
        shape: Any = tensor.shape
        value = values[name] = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype))
        if name in infos:
            _described(value, infos[name])
    value.const_value = tensor
    return value


def _node(proto: onnx.NodeProto, values: dict[str, ir.Value], infos: dict[str, onnx.ValueInfoProto]) -> ir.Node:
    outputs = []
    for name in proto.output:
        value = ir.Value(name=name)
        outputs.append(value)
        if name:
            values[name] = value
            if name in infos:
                _described(value, infos[name])
    return ir.Node(
        proto.domain,
        proto.op_type,
        [values[name] if name else None for name in proto.input],
        [_attribute(attribute) for attribute in proto.attribute],
        overload=proto.overload,
        outputs=outputs,
        name=proto.name,
        doc_string=_given(proto, "doc_string"),
        metadata_props=_entries(proto.metadata_props),
    )


def _attribute(proto: onnx.AttributeProto) -> ir.Attr:
    if proto.type not in _PLAIN or proto.ref_attr_name:
        return ir.serde.deserialize_attribute(proto)
    kind, read = _PLAIN[proto.type]
    return ir.Attr(proto.name, kind, read(proto), doc_string=_given(proto, "doc_string"))


def _described(value: ir.Value, info: onnx.ValueInfoProto) -> ir.Value:
    """Give a value the type and shape that the file records."""
    kind = info.type
    if kind.HasField("tensor_type") and not kind.denotation and kind.tensor_type.HasField("elem_type"):
        tensor = kind.tensor_type
        value.type = ir.TensorType(_TYPES[tensor.elem_type])
        value.shape = _shape(tensor.shape) if tensor.HasField("shape") else None
    else:
        value.type = ir.serde.deserialize_type_proto_for_type(kind)
        value.shape = ir.serde.deserialize_type_proto_for_shape(kind)
    value.doc_string = _given(info, "doc_string")
    if info.metadata_props:
        value.metadata_props.update(_entries(info.metadata_props) or {})
    return value


def _shape(proto: onnx.TensorShapeProto) -> ir.Shape:
    sizes: list[int | str | None] = []
    for dim in proto.dim:
        if dim.HasField("dim_value"):
            sizes.append(dim.dim_value)
        else:
            sizes.append(dim.dim_param if dim.HasField("dim_param") else None)
        if dim.denotation:
            return ir.serde.deserialize_tensor_shape(proto)
    return shared_shape(tuple(sizes))


def _tensor(proto: onnx.TensorProto) -> ir.TensorProtocol:
    """Return a tensor; a small one whose entries numpy reads as they are is an array, as nothing is faster."""
    kind = _RAW.get(proto.data_type)
    if kind is None or not proto.HasField("raw_data") or proto.doc_string or proto.metadata_props:
        return ir.serde.deserialize_tensor(proto)
    shape = tuple(proto.dims)
    if math.prod(shape) * kind.itemsize > MAX_BYTES:
        return ir.serde.deserialize_tensor(proto)
    return ir.Tensor(
        np.frombuffer(proto.raw_data, kind).reshape(shape), _TYPES[proto.data_type], name=_given(proto, "name")
    )


def _text(data: bytes) -> str | bytes:
    """Return a string, or, as `onnx_ir` does, the bytes of what some op of its own calls one."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _given(proto: Any, field: str) -> Any:
    return getattr(proto, field) if proto.HasField(field) else None


def _entries(props: Sequence[onnx.StringStringEntryProto]) -> dict[str, str] | None:
    return {entry.key: entry.value for entry in props} if props else None
