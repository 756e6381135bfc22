"""Ops that an engine lacks are expanded into the function bodies that the ONNX standard itself carries."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx.defs
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.constants import lift_constants
from portnet.graph.passes.inline import inline_call
from portnet.graph.passes.rewrite import Editor, every_node, subgraphs
from portnet.graph.passes.shapes import infer_node, input_types
from portnet.graph.passes.upgrade import upgrade

__all__ = ["expand_functions", "function_body", "op_name"]

# bodies call other functions: SoftmaxCrossEntropyLoss → NegativeLogLikelihoodLoss → ... is four deep
MAX_DEPTH = 12
MAX_NODES = 200_000


def op_name(node: ir.Node) -> str:
    """Name of an op as tables spell it: ``Relu``, ``com.microsoft.Gelu``, ``ai.onnx.ml.Scaler``."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def expand_functions(model: ir.Model, supports: frozenset[str]) -> int:
    """Replace every node whose op is not in ``supports`` by the standard's function body, bodies included.

    An op without a body stays, for the engine to refuse.

    Requires: newest semantics, stamped opset, inferred types.
    Ensures: no op outside ``supports`` is left that has a body.

    Returns:
        How many nodes took the place of others.

    Raises:
        ModelError: more nodes than `MAX_NODES`.
    """
    editor, pending, count = Editor(model), list(every_node(model.graph)), 0
    for _ in range(MAX_DEPTH):
        lacking = [node for node in pending if op_name(node) not in supports]
        pending = [new for node in lacking for new in _expand(node, editor)]
        if not pending:
            return count
        count += len(pending)
        if count > MAX_NODES:
            raise ModelError(f"the standard's function bodies unfold to more than {MAX_NODES:,} nodes")
    return count


def _expand(node: ir.Node, editor: Editor) -> list[ir.Node]:
    """Replace a node by its body and return the nodes of that, or nothing where it has none."""
    body = function_body(node, editor.model)
    if body is None:
        return []
    model = editor.model
    version = body.opset_imports.get("", model.opset_imports[""])
    model.graph.opset_imports[""] = max(version, model.opset_imports[""])
    nodes = [inner for new in inline_call(node, body, editor) for inner in (*_inside(new), new)]
    for new in nodes:
        new.version = body.opset_imports.get(new.domain, version)
    lift_constants(model, nodes)
    upgrade(model, [new for new in nodes if new.graph is not None])
    left = [new for new in nodes if new.graph is not None]
    for new in left:
        infer_node(new, model.opset_imports[""])
    return left


def _inside(node: ir.Node) -> list[ir.Node]:
    return [inner for graph in subgraphs(node) for inner in every_node(graph)]


# onnx's type stubs lack what a schema says of its body
_Schema = Any


def function_body(node: ir.Node, model: ir.Model) -> ir.Function | None:
    """Return the standard's function body for a node, or None where it has none.

    Args:
        node: a node in the newest semantics; some bodies depend on its attributes and input types.
        model: the model it lies in, for the opset.
    """
    opset = model.opset_imports.get(node.domain, 1)
    for schema in _schemas(node.domain, node.op_type, opset):
        if schema.has_function:
            return _instantiable(node, schema, _plain_body(node.domain, node.op_type, schema.since_version))
        if schema.has_context_dependent_function:
            proto = _contextual_body(node, schema)
            if proto is not None:
                return _instantiable(node, schema, proto)
    return None


def _schemas(domain: str, op_type: str, opset: int) -> list[_Schema]:
    """Return the op's schema as of ``opset``, and the newest one, which may have gained a body since."""
    newest = onnx.defs.onnx_opset_version() if domain == "" else opset
    return [
        onnx.defs.get_schema(op_type, version, domain)
        for version in dict.fromkeys((opset, newest))
        if onnx.defs.has(op_type, version, domain)
    ]


@functools.cache
def _plain_body(domain: str, op_type: str, since: int) -> onnx.FunctionProto:
    schema: _Schema = onnx.defs.get_schema(op_type, since, domain)
    proto = onnx.FunctionProto()
    proto.ParseFromString(schema.get_function_with_opset_version(max(schema.function_opset_versions)))
    return proto


def _contextual_body(node: ir.Node, schema: _Schema) -> onnx.FunctionProto | None:
    version = max(schema.context_dependent_function_opset_versions)
    types = [proto.SerializeToString() for proto in input_types(node)]
    data = schema.get_context_dependent_function_with_opset_version(
        version, ir.serde.serialize_node(node).SerializeToString(), types
    )
    proto = onnx.FunctionProto()
    proto.ParseFromString(data)
    return proto if proto.node else None


def _instantiable(node: ir.Node, schema: _Schema, proto: onnx.FunctionProto) -> ir.Function:
    """Return the body, with the schema's defaults written on the node for the body's references to find.

    A body may leave out outputs that the node does not ask for: they become inputs that nobody gives.
    """
    produced = {name for inner in proto.node for name in inner.output}
    absent = [name for name in proto.output if name not in produced and name not in proto.input]
    if absent:
        proto.input.extend(absent)
    function = ir.serde.deserialize_function(proto)
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if default.type != onnx.AttributeProto.UNDEFINED and name not in node.attributes:
            node.attributes[name] = ir.serde.deserialize_attribute(default)
    return function
