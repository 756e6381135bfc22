"""A network as boxes and arrows: what each box says, and which belong together.

A layer and what only follows it (its normalisation, its activation, dropout, flattening) are one box, unless every
layer is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.graph.layers import Layer
from portnet.graph.summary import Summary, SummaryRow

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["KINDS", "Block", "diagram"]

# kind of layer -> what the legend calls it
KINDS = {
    "conv": "convolution",
    "dense": "dense layer, matrix product",
    "norm": "normalisation",
    "activation": "activation",
    "pool": "pooling, reduction",
    "merge": "joins branches",
    "other": "other",
    "port": "input, output",
}

_KIND_OF = {
    "conv": "Conv ConvTranspose ConvInteger QLinearConv DeformConv",
    "dense": "Gemm MatMul Einsum MatMulInteger QLinearMatMul LSTM GRU RNN Attention",
    "norm": "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LRN "
    "LpNormalization MeanVarianceNormalization",
    "activation": "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Tanh Softmax LogSoftmax Clip "
    "Gelu Mish Softplus Softsign ThresholdedRelu Erf",
    "pool": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool ReduceMean ReduceMax ReduceSum",
    "merge": "Add Mul Sub Div Concat Sum Mean Max Min Where",
}
_KINDS = {op: kind for kind, ops in _KIND_OF.items() for op in ops.split()}

# what a layer is called in a few letters; others go by their ONNX name
_SHORT = {
    "Conv": "conv",
    "ConvTranspose": "transposed conv",
    "Gemm": "dense",
    "MatMul": "matmul",
    "BatchNormalization": "BN",
    "LayerNormalization": "LN",
    "GroupNormalization": "GN",
    "InstanceNormalization": "IN",
    "Relu": "ReLU",
    "MaxPool": "max pool",
    "AveragePool": "avg pool",
    "GlobalAveragePool": "global avg pool",
    "GlobalMaxPool": "global max pool",
    "Add": "add",
    "Mul": "multiply",
    "Concat": "concat",
    "Dropout": "dropout",
    "Flatten": "flatten",
    "Reshape": "reshape",
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Transpose": "transpose",
    "Squeeze": "squeeze",
    "Unsqueeze": "unsqueeze",
    "Gather": "gather",
    "Slice": "slice",
    "Split": "split",
    "Sub": "subtract",
    "Div": "divide",
    "Pad": "pad",
    "Resize": "resize",
    "Gelu": "GELU",
    "ReduceMean": "mean",
}
_FOLLOWERS = {*_KIND_OF["norm"].split(), *_KIND_OF["activation"].split(), "Dropout", "Flatten", "Identity", "Cast"}


@dataclass
class Block:
    """One box.

    Attributes:
        title: what it does, e.g. "3×3 conv, 64, /2 · ReLU".
        name: name of its first layer.
        shape: sizes of what it puts out, without the batch, e.g. "64×111×111"; "" when unknown.
        kind: one of `KINDS`.
        stage: stage it belongs to, or "".
        layers: the layers in it.
        sources: indices of the boxes whose outputs it reads.
    """

    title: str
    name: str
    shape: str
    kind: str
    stage: str = ""
    layers: list[Layer] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)

    @property
    def details(self) -> str:
        """The layers in it with their numbers, a line each."""
        return "\n".join(f"{layer.index}: {layer.name} ({layer.op})" for layer in self.layers)


def diagram(model: Model, summary: Summary, *, every_layer: bool = False) -> list[Block]:
    """Return a network's boxes in the order they run; their ``sources`` point backwards.

    Weights, constants and what is computed from them alone are left out.
    """
    rows = summary.rows
    inputs = _inputs(model)
    blocks: list[Block] = []
    place: dict[ir.Value, int] = {}
    for value in inputs:
        first = rows[0] if value is inputs[0] else None
        place[value] = len(blocks)
        blocks.append(_port(value, first))
    for row, node in zip(rows[1:], model.ir.graph, strict=True):
        sources = list(dict.fromkeys(place[v] for v in node.inputs if v is not None and v in place))
        if not sources:
            continue
        if not every_layer and _follows(node, blocks[sources[0]], sources):
            index = sources[0]
            _join(blocks[index], row, node)
        else:
            index = len(blocks)
            blocks.append(_block(row, node, sources))
        place.update(dict.fromkeys(node.outputs, index))
    return blocks + _outputs(model, place)


def _inputs(model: Model) -> list[ir.Value]:
    return [value for value in model.ir.graph.inputs if value.name not in model.ir.graph.initializers]


def _port(value: ir.Value, row: SummaryRow | None) -> Block:
    shape = row.shape if row is not None else None
    sizes = tuple(str(n) for n in value.shape) if shape is None and value.shape is not None else shape
    return Block("input", value.name or "", _sizes(sizes), "port", layers=[row.layer] if row is not None else [])


def _outputs(model: Model, place: dict[ir.Value, int]) -> list[Block]:
    values = [value for value in model.ir.graph.outputs if value in place]
    return [Block("output", value.name or "", "", "port", sources=[place[value]]) for value in values]


def _block(row: SummaryRow, node: ir.Node, sources: list[int]) -> Block:
    kind = "merge" if node.op_type not in _KINDS and len(sources) > 1 else _KINDS.get(node.op_type, "other")
    if kind == "merge" and len(sources) == 1:
        kind = "other"
    return Block(_title(node), row.layer.name, _sizes(row.shape), kind, row.layer.stage, [row.layer], sources)


def _follows(node: ir.Node, before: Block, sources: list[int]) -> bool:
    """Whether a layer does nothing but go on with the box before it, which nothing else reads."""
    if node.op_type not in _FOLLOWERS or len(sources) != 1 or before.kind in ("port", "activation"):
        return False
    source = node.inputs[0]
    return source is not None and not source.is_graph_output() and len(list(source.uses())) == 1


def _join(block: Block, row: SummaryRow, node: ir.Node) -> None:
    if row.layer.op not in ("Identity", "Cast"):
        block.title += f" · {_called(node)}"
    block.layers.append(row.layer)
    block.shape = _sizes(row.shape)


def _called(node: ir.Node) -> str:
    """Return what a layer is called in a few letters."""
    if node.op_type == "Clip" and [_number(value) for value in node.inputs[1:]] == [0.0, 6.0]:
        return "ReLU6"
    weight = _weight(node)
    if node.op_type == "Conv" and weight is not None and weight[1] == 1 and node.attributes.get_int("group", 1) > 1:
        return "depthwise conv"
    return _SHORT.get(node.op_type, node.op_type)


def _number(value: ir.Value | None) -> float | None:
    tensor = None if value is None else value.const_value
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _sizes(shape: Sequence[int | str] | None) -> str:
    if shape is None:
        return ""
    return "×".join(map(str, shape[1:])) if len(shape) > 1 else "×".join(map(str, shape))


def _title(node: ir.Node) -> str:
    """Return a layer's op with what matters of its attributes: window, width, stride, groups."""
    window = node.attributes.get_ints("kernel_shape", None) or _kernel_of_weight(node)
    words = [*(["×".join(map(str, window))] if window else []), _called(node)]
    width = _width(node)
    title = " ".join(words) + (f", {width}" if width else "")
    strides = node.attributes.get_ints("strides", None) or [1]
    if max(strides) > 1:
        title += f", /{strides[0]}" if len(set(strides)) == 1 else f", /{'×'.join(map(str, strides))}"
    groups = node.attributes.get_int("group", 1)
    is_grouped = groups > 1 and node.op_type.startswith("Conv") and "depthwise" not in title
    return title + (f", {groups} groups" if is_grouped else "")


def _weight(node: ir.Node) -> ir.Shape | None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return value.shape if value is not None and value.const_value is not None else None


def _kernel_of_weight(node: ir.Node) -> list[int] | None:
    shape = _weight(node)
    if node.op_type not in ("Conv", "ConvTranspose") or shape is None:
        return None
    return [int(n) for n in shape[2:]]  # type: ignore[arg-type]


def _width(node: ir.Node) -> int | None:
    """Return how many channels or units a layer with weights puts out."""
    shape = _weight(node)
    if shape is None or len(shape) < 2:
        return None
    if node.op_type == "ConvTranspose":
        return int(shape[1]) * node.attributes.get_int("group", 1)  # type: ignore[arg-type]
    if node.op_type == "Conv":
        return int(shape[0])  # type: ignore[arg-type]
    if node.op_type == "Gemm":
        return int(shape[0 if node.attributes.get_int("transB", 0) else 1])  # type: ignore[arg-type]
    return int(shape[-1]) if node.op_type == "MatMul" else None  # type: ignore[arg-type]
