"""Finding where the head of a foreign classifier begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.errors import ModelError

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["find_feature"]

# what stands between the last layer with weights and the output, or between feature map and classifier
_GLUE = {
    "Softmax",
    "LogSoftmax",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Dropout",
    "Cast",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "AveragePool",
    "ReduceMean",
    "Relu",
    "Add",
    "Transpose",
}
_CLASSIFIERS = {"Gemm", "MatMul", "Conv"}


def find_feature(model: Model) -> str:
    """Return the name of the tensor that a new head goes on: the input of the last classifier, before its pooling.

    Raises:
        ModelError: the network does not end as a classifier does.
    """
    if len(model.ir.graph.outputs) != 1:
        raise ModelError(f"backbone: a network of {len(model.outputs)} outputs has no head to find. Name the feature.")
    classifier = _back_to(model.ir.graph.outputs[0], _CLASSIFIERS)
    value = None if classifier is None else classifier.inputs[0]
    while (
        value is not None and (producer := value.producer()) is not None and producer.op_type in _GLUE - {"Relu", "Add"}
    ):
        value = producer.inputs[0]
    if value is None or value.producer() is None or not value.name:
        raise ModelError(
            "backbone: found no classifier (Gemm, MatMul or Conv) before the output. "
            "Name the feature tensor with Backbone.of(..., feature=...)."
        )
    return value.name


def _back_to(value: ir.Value | None, ops: set[str]) -> ir.Node | None:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in ops:
            return node
        if node.op_type not in _GLUE:
            return None
        value = next((v for v in node.inputs if v is not None and v.producer() is not None), None)
    return None
