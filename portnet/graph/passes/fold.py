"""Arithmetic on constants is done once, here, by the standard's reference implementation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import onnx_ir as ir

from portnet.graph.parameters import Role, roles
from portnet.graph.passes.rewrite import (
    Editor,
    Site,
    constant_array,
    every_node,
    item_bytes,
    python_attribute,
    subgraphs,
)
from portnet.graph.passes.shapes import infer_node

__all__ = ["FOLDABLE", "fold_constants"]

# deterministic ops whose cost grows with their inputs and outputs alone
FOLDABLE = frozenset(
    """Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Cast CastLike Ceil Clip Compress Concat ConstantOfShape Cos Cosh CumSum Div Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean
    Min Mod Mul Neg NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Shape Sigmoid Sign Sin
    Sinh Size Slice Split Sqrt Squeeze Sub Sum Tan Tanh Tile Transpose Trilu Unsqueeze Where Xor""".split()  # noqa: SIM905 - a list of 80 quoted words is no easier to read
)
# their results are never larger than their inputs, though their shape depends on the data
_SHRINKING = frozenset({"Compress", "NonZero"})
MAX_BYTES = 16 << 20
MAX_TOTAL_BYTES = 1 << 30
# entries of a ConstantOfShape: the weights of light_vgg19 come to 103 million
MAX_FILLED = 1 << 28


def fold_constants(model: ir.Model) -> bool:
    """Replace nodes of constant inputs by constants, ``Shape`` and ``Size`` of known shapes, and known sizes of others.

    Weights are not folded through: what trains must stay where it can be found. Results are marked constant.

    Requires: newest semantics, inferred shapes.
    Ensures: no node of `FOLDABLE` is left that reads constants alone and gives at most `MAX_BYTES`, as long as the
    results come to at most `MAX_TOTAL_BYTES`.

    Returns:
        Whether there was one.
    """
    editor, total, folded = Editor(model), 0, False
    trained: set[str] | None = None
    for node in every_node(model.graph):
        if node.domain != "" or node.op_type not in FOLDABLE or subgraphs(node):
            continue
        results = _known_shape(node) if node.op_type in ("Shape", "Size") else None
        results = _known_sizes(node) if node.op_type == "Gather" else results
        if results is None and _reads_initializers(node):
            if trained is None:
                trained = {name for name, role in roles(model).items() if role is not Role.CONSTANT}
            results = _filled(node) or _evaluate(node, model.opset_imports[""], trained)
        if results is not None:
            _replace(node, results, editor)
            folded = True
            total += sum(array.nbytes for array in results)
            if total > MAX_TOTAL_BYTES:
                return folded
    return folded


def _reads_initializers(node: ir.Node) -> bool:
    """Whether no input is computed."""
    return all(value is None or value.is_initializer() for value in node.inputs)


def _replace(node: ir.Node, results: list[np.ndarray], editor: Editor) -> None:
    values = [
        editor.register(ir.tensor(array, dtype=output.dtype), f"{output.name or node.name}/folded")
        for output, array in zip(node.outputs, results, strict=True)
    ]
    Site(node, editor).replace(*values)


def _known_shape(node: ir.Node) -> list[np.ndarray] | None:
    """Evaluate Shape and Size of a tensor whose sizes are numbers, though its values are not known."""
    source = node.inputs[0] if node.inputs else None
    if source is None or source.shape is None:
        return None
    sizes = list(source.shape)
    if node.op_type == "Shape":
        sizes = sizes[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(sizes))]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return [np.array(math.prod(sizes) if node.op_type == "Size" else sizes, np.int64)]  # type: ignore[arg-type]


def _known_sizes(node: ir.Node) -> list[np.ndarray] | None:
    """Evaluate Gather of a shape some of whose sizes are free, where those that it picks are numbers."""
    shape, picks = node.inputs[0].producer() if node.inputs[0] is not None else None, constant_array(node.inputs[1])
    if shape is None or shape.op_type != "Shape" or shape.domain != "" or picks is None or shape.inputs[0] is None:
        return None
    if shape.inputs[0].shape is None or picks.dtype.kind != "i":
        return None
    sizes = list(shape.inputs[0].shape)
    sizes = sizes[shape.attributes.get_int("start", 0) : shape.attributes.get_int("end", len(sizes))]
    if not all(-len(sizes) <= pick < len(sizes) and isinstance(sizes[pick], int) for pick in picks.reshape(-1)):
        return None
    return [np.array([sizes[pick] for pick in picks.reshape(-1)], np.int64).reshape(picks.shape)]


def _filled(node: ir.Node) -> list[np.ndarray] | None:
    """Evaluate ConstantOfShape into one entry seen many times, which takes no memory until it is copied."""
    shape = constant_array(node.inputs[0]) if node.op_type == "ConstantOfShape" else None
    if shape is None or shape.ndim != 1 or not np.all(shape >= 0) or math.prod(shape.tolist()) > MAX_FILLED:
        return None
    value = python_attribute(node, "value", np.zeros(1, np.float32))
    return [np.broadcast_to(value.reshape(-1)[0], shape.tolist())] if value.size == 1 else None


def _evaluate(node: ir.Node, opset: int, trained: set[str]) -> list[np.ndarray] | None:
    tensors = {value.name or "": _constant(value, trained) for value in node.inputs if value is not None}
    known = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if len(known) < len(tensors) or not all(output.name for output in node.outputs):
        return None
    if sum(tensor.nbytes for tensor in known.values()) > MAX_BYTES or not _is_bounded(node, opset):
        return None
    return _run(node, opset, {name: tensor.numpy() for name, tensor in known.items()})


def _constant(value: ir.Value, trained: set[str]) -> ir.TensorProtocol | None:
    return value.const_value if value.is_initializer() and value.name not in trained else None


def _is_bounded(node: ir.Node, opset: int) -> bool:
    """Whether the results are known to be small before they are computed; recorded shapes are not believed."""
    if node.op_type in _SHRINKING:
        return True
    recorded = [output.shape for output in node.outputs]
    for output in node.outputs:
        output.shape = None
    infer_node(node, opset)
    bounded = all(_bytes(output) <= MAX_BYTES for output in node.outputs)
    for output, shape in zip(node.outputs, recorded, strict=True):
        output.shape = output.shape if output.shape is not None else shape
    return bounded


def _bytes(value: ir.Value) -> float:
    if value.shape is None or value.dtype is None:
        return math.inf
    sizes = [size if isinstance(size, int) else math.inf for size in value.shape]
    return math.prod(sizes) * item_bytes(value.dtype)


def _run(node: ir.Node, opset: int, feeds: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """Run one node; None where the reference cannot, or gives another type than the standard says."""
    from onnx.reference import ReferenceEvaluator  # takes a quarter of a second, and most networks fold nothing

    proto = ir.serde.serialize_node(node)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(proto, opsets={"": opset}).run(None, feeds)
    except Exception:  # the reference raises whatever numpy raises; the node then stays as it is
        return None
    arrays = [np.asarray(result) for result in results]
    fits = all(
        output.dtype is None or output.dtype == ir.DataType.STRING or array.dtype == output.dtype.numpy()
        for output, array in zip(node.outputs, arrays, strict=True)
    )
    return arrays if fits else None
