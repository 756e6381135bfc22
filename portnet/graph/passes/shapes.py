"""Element types and shapes of every value, inferred by the standard's own rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir

from portnet.graph.parameters import FLOATS
from portnet.graph.passes.reshapes import is_invented, solve_reshapes
from portnet.graph.passes.rewrite import every_graph, subgraphs
from portnet.graph.passes.versions import OLDEST_TARGET

__all__ = ["infer_node", "infer_shapes"]

# initializers up to this size are shown to inference, which reads shapes, axes and counts from them
SMALL_BYTES = 2048
# of floats it reads the scales of a Resize and the limits of a Range, no vector of weights
SMALL_FLOAT_BYTES = 128
MAX_SHAPE_LENGTH = 4096
# vectors longer than this have an unknown length in inference; integers may be shapes
MAX_VECTOR = 1 << 24
_MAX_VECTOR = {onnx.TensorProto.INT64: MAX_SHAPE_LENGTH, onnx.TensorProto.INT32: MAX_SHAPE_LENGTH}
# up to opset 21 inference counts windows of a pool in ceil mode that begin in the padding behind, and no runtime does
_SOUND_OPSET = 22
# a Reshape that is solved lets inference go on to the next one
MAX_ROUNDS = 4
_SHAPED_AS_INPUT = frozenset({"GroupNormalization"})
_FAILURES = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)


def infer_shapes(model: ir.Model) -> None:
    """Infer element types and shapes anew; weights are not serialized for it.

    Sizes recorded in the file are used where inference finds none: exporters leave stale ones, such as a batch of 1
    behind an input whose batch is free.

    Requires: nothing.
    Ensures: ``type`` and ``shape`` are set where the standard's rules can tell.
    """
    sizes = [size for value in model.graph.inputs for size in value.shape or ()]
    is_static = all(isinstance(size, int) for size in sizes)
    symbols = {size.value for size in sizes if not isinstance(size, int)} - {None}
    recorded = {
        output: _recorded(output, symbols, is_static or node.domain != "")
        for graph in every_graph(model)
        for node in graph
        for output in node.outputs
    }
    for output in recorded:
        output.shape = recorded[output] if output.producer().domain != "" else None  # type: ignore[union-attr]
    for _ in range(MAX_ROUNDS):
        inferred = _inferred(_without_weights(model))
        if inferred is not None:
            _merge(model.graph, inferred)
        if not solve_reshapes(model):
            break
    for output, shape in recorded.items():
        output.shape = _combined(output.shape, shape)


def _inferred(light: onnx.ModelProto) -> onnx.GraphProto | None:
    try:
        inferred = onnx.shape_inference.infer_shapes(light)
        if _reads_shapes(light.graph) and not _has_long_vectors(inferred.graph):
            inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except _FAILURES:
        return None
    return inferred.graph


def _reads_shapes(graph: onnx.GraphProto) -> bool:
    """Whether there is shape arithmetic, which inference follows only when asked to propagate data."""
    return any(node.op_type in ("Shape", "Size") for inner in _graphs(graph) for node in inner.node)


def _has_long_vectors(graph: onnx.GraphProto) -> bool:
    """Whether a tensor of one axis is too long to be a shape: data propagation would store it entry by entry."""
    infos = (info for inner in _graphs(graph) for info in (*inner.input, *inner.value_info, *inner.output))
    shapes = (info.type.tensor_type.shape.dim for info in infos)
    return any(len(dims) == 1 and dims[0].dim_value > MAX_SHAPE_LENGTH for dims in shapes)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _recorded(value: ir.Value, symbols: set[str | None], is_static: bool) -> ir.Shape | None:
    """Return what is worth keeping of a recorded shape: numbers where no input has a free size, else the rank.

    Symbols are kept on outputs, and only those of the inputs: exporters also write one symbol for sizes that differ.
    """
    if value.shape is None:
        return None
    kept = symbols if value.is_graph_output() else set()
    return ir.Shape([_recorded_size(size, kept, is_static) for size in value.shape])


def _recorded_size(size: int | ir.SymbolicDim, symbols: set[str | None], is_static: bool) -> int | str | None:
    if isinstance(size, int):
        return size if is_static else None
    return size.value if size.value in symbols else None


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    """Return the model as protobuf, its large initializers as inputs."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=_inferred_as(version) if domain == "" else version)
    graph = proto.graph
    graph.name = "graph"
    for value in model.graph.inputs:
        _add_input(graph, value)
    for value in model.graph.initializers.values():
        _add_initializer(graph, value)
    for node in model.graph:
        ir.serde.serialize_node_into(graph.node.add(), node)
        _stand_in(graph.node[-1])
        for output in node.outputs:
            if output.type is not None and not output.is_graph_output():
                ir.serde.serialize_value_into(graph.value_info.add(), output)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    return proto


def _inferred_as(version: int) -> int:
    """Return the opset to infer by: nodes brought to the newest semantics mean the same in the next one."""
    return max(version, _SOUND_OPSET) if version >= OLDEST_TARGET else version


def _stand_in(node: onnx.NodeProto) -> None:
    """Make an op that the standard has no inference for, and whose output is shaped as its input, an Identity."""
    if node.op_type in _SHAPED_AS_INPUT and node.domain == "":
        node.op_type = "Identity"
        del node.input[1:], node.attribute[:]


def _add_initializer(graph: onnx.GraphProto, value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is not None and _is_shown(tensor):
        ir.serde.serialize_tensor_into(graph.initializer.add(), tensor)
        graph.initializer[-1].name = value.name or ""
    elif tensor is not None:
        value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    if not value.is_graph_input() and value.type is not None:
        _add_input(graph, value)


def _is_shown(tensor: ir.TensorProtocol) -> bool:
    return tensor.nbytes <= (SMALL_FLOAT_BYTES if tensor.dtype in FLOATS else SMALL_BYTES)


def _add_input(graph: onnx.GraphProto, value: ir.Value) -> None:
    info = graph.input.add()
    ir.serde.serialize_value_into(info, value)
    dims = info.type.tensor_type.shape.dim
    if len(dims) == 1 and dims[0].dim_value > _MAX_VECTOR.get(info.type.tensor_type.elem_type, MAX_VECTOR):
        # as a shape, so long a vector would make a tensor of so many axes
        dims[0].ClearField("dim_value")


def _merge(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    known = {info.name: info.type for info in (*inferred.value_info, *inferred.output)}
    for node, proto in zip(graph, inferred.node, strict=True):
        for output in node.outputs:
            if output.name in known:
                _set_type(output, known[output.name])
        protos = {attribute.name: attribute for attribute in proto.attribute}
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH:
                _merge(attribute.as_graph(), protos[name].g)


def _set_type(value: ir.Value, proto: onnx.TypeProto) -> None:
    if proto.WhichOneof("value") is None:
        return
    inferred = ir.serde.deserialize_type_proto_for_type(proto)
    if inferred is not None and inferred.dtype != ir.DataType.UNDEFINED:
        value.type = inferred
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    if shape is not None:
        value.shape = shape


def _combined(inferred: ir.Shape | None, recorded: ir.Shape | None) -> ir.Shape | None:
    """Return the inferred shape, with recorded sizes where inference has but a symbol of its own."""
    if inferred is None or recorded is None or len(recorded) != len(inferred):
        return recorded if inferred is None else inferred
    sizes = [
        old if is_invented(new) and (isinstance(old, int) or old.value is not None) else new
        for new, old in zip(inferred, recorded, strict=True)
    ]
    return ir.Shape(sizes)


def infer_node(node: ir.Node, opset: int) -> None:
    """Infer the outputs of one node from its inputs, where the standard's rules can tell.

    Args:
        node: a node of the default domain; subgraphs' own values are not inferred.
        opset: version of the default operator set.
    """
    if node.domain != "" or subgraphs(node) or not onnx.defs.has(node.op_type, opset, ""):
        return
    proto = ir.serde.serialize_node(node)
    known = {value.name or "": value for value in node.inputs if value is not None}
    types = {name: _type_proto(value) for name, value in known.items()}
    data = {name: _small_data(value) for name, value in known.items()}
    try:
        opset = _inferred_as(opset)
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""),
            proto,
            types,
            {name: tensor for name, tensor in data.items() if tensor is not None},
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
    except _FAILURES:
        return
    for output in node.outputs:
        if output.name in found:
            _set_type(output, found[output.name])


def input_types(node: ir.Node) -> Sequence[onnx.TypeProto]:
    """Return the types of a node's inputs as protobuf, empty where one is unknown or left out."""
    return [onnx.TypeProto() if value is None else _type_proto(value) for value in node.inputs]


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    if value.type is None:
        return onnx.TypeProto()
    return ir.serde.serialize_value(value).type


def _small_data(value: ir.Value) -> onnx.TensorProto | None:
    """Return the data of a small constant, or None."""
    tensor = value.const_value
    if not value.is_initializer() or tensor is None or tensor.nbytes > SMALL_BYTES:
        return None
    return ir.serde.serialize_tensor(tensor)
