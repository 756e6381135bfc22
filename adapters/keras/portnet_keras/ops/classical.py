"""Ops of classical machine learning (``ai.onnx.ml``)."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import ops
from portnet_keras.ops.registry import op

__all__: list[str] = []


@op("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(walk: Any, node: NodeView) -> Any:
    """Columns of a matrix."""
    x, places = walk.plain(node.required(0)), walk.plain(node.required(1))
    return ops.take(x, ops.reshape(places, (-1,)), axis=-1)


@op("ai.onnx.ml.Binarizer")
def binarizer(walk: Any, node: NodeView) -> Any:
    """1 above a threshold, else 0."""
    x = walk.plain(node.required(0))
    return ops.cast(ops.greater(x, node["threshold"]), x.dtype)
