"""Small networks that the conformance suite lowers and trains: seeded, float32, opset 21, batch size free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from portnet.graph.model import Model

__all__ = ["BATCH_NORM_EPS", "CLASSES", "batch_norm_network", "convnet", "dropout_network", "mlp", "reference_run"]

CLASSES = 4
BATCH_NORM_EPS = 1e-4
_OPSET = 21


def mlp() -> Model:
    """Return Gemm(5 → 7), Relu, Gemm(7 → 4) on x (N, 5)."""
    weights = _weights(
        {"hidden.weight": (7, 5), "hidden.bias": (7,), "head.weight": (CLASSES, 7), "head.bias": (CLASSES,)}
    )
    nodes = [
        _node("Gemm", ["x", "hidden.weight", "hidden.bias"], "hidden", transB=1),
        _node("Relu", ["hidden"], "relu"),
        _node("Gemm", ["relu", "head.weight", "head.bias"], "logits", transB=1),
    ]
    return _model("mlp", nodes, ["N", 5], weights)


def dropout_network(ratio: float = 0.5) -> Model:
    """Return the network of `mlp` with Dropout after the input and after the Relu."""
    weights = _weights(
        {"hidden.weight": (16, 64), "hidden.bias": (16,), "head.weight": (CLASSES, 16), "head.bias": (CLASSES,)}
    )
    nodes = [
        _node("Dropout", ["x", "ratio"], "dropped"),
        _node("Gemm", ["dropped", "hidden.weight", "hidden.bias"], "hidden", transB=1),
        _node("Relu", ["hidden"], "relu"),
        _node("Dropout", ["relu", "ratio"], "relu_dropped"),
        _node("Gemm", ["relu_dropped", "head.weight", "head.bias"], "logits", transB=1),
    ]
    return _model("dropout", nodes, ["N", 64], {**weights, "ratio": np.array(ratio, np.float32)})


def batch_norm_network(momentum: float = 0.9) -> Model:
    """Return BatchNormalization(3), Flatten, Gemm on x (N, 3, 2, 2): the batch's statistics are those of x."""
    nodes = [
        _batch_norm("x", "bn", momentum),
        _node("Flatten", ["bn"], "flat"),
        _node("Gemm", ["flat", "head.weight", "head.bias"], "logits", transB=1),
    ]
    weights = _weights({"head.weight": (CLASSES, 12), "head.bias": (CLASSES,)}) | _statistics("bn", 3)
    return _model("batch_norm", nodes, ["N", 3, 2, 2], weights)


def convnet() -> Model:
    """Return a network of what image networks are made of, on x (N, 3, 12, 12).

    Conv 3×3 without bias, BatchNormalization, Relu, MaxPool, grouped Conv with stride, BatchNormalization, a
    residual Add, GlobalAveragePool, Flatten, Gemm.
    """
    nodes = [
        _node("Conv", ["x", "stem.weight"], "stem", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        _batch_norm("stem", "bn1", 0.9),
        _node("Relu", ["bn1"], "relu1"),
        _node("MaxPool", ["relu1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        _node("Conv", ["pool", "group.weight", "group.bias"], "group", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2),
        _batch_norm("group", "bn2", 0.8),
        _node("Add", ["bn2", "pool"], "sum"),
        _node("GlobalAveragePool", ["sum"], "mean"),
        _node("Flatten", ["mean"], "flat"),
        _node("Gemm", ["flat", "head.weight", "head.bias"], "logits", transB=1),
    ]
    shapes = {
        "stem.weight": (8, 3, 3, 3),
        "group.weight": (8, 4, 3, 3),
        "group.bias": (8,),
        "head.weight": (CLASSES, 8),
        "head.bias": (CLASSES,),
    }
    weights = _weights(shapes) | _statistics("bn1", 8) | _statistics("bn2", 8)
    return _model("convnet", nodes, ["N", 3, 12, 12], weights)


def reference_run(model: Model, x: np.ndarray, weights: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Run a network of one input in inference mode with the standard's own evaluator, in the dtype of ``x``.

    Args:
        model: a network of float32 weights.
        x: its input, float32 or float64.
        weights: arrays by name to use in place of the model's.
    """
    from onnx.reference import ReferenceEvaluator

    proto = onnx.load_from_string(model.to_bytes())
    for tensor in [tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT]:
        array = (weights or {}).get(tensor.name, numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array, x.dtype), tensor.name))
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    for node in [node for node in proto.graph.node if node.op_type == "GroupNormalization"]:
        node.attribute.append(helper.make_attribute("stash_type", element))
    for port in (*proto.graph.input, *proto.graph.output):
        port.type.tensor_type.elem_type = element
    results: Any = ReferenceEvaluator(proto).run(None, {model.inputs[0].name: x})
    return np.asarray(results[0])


def _node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{output}_node", **attributes)


def _batch_norm(source: str, name: str, momentum: float) -> onnx.NodeProto:
    inputs = [source, *(f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
    return _node("BatchNormalization", inputs, name, epsilon=BATCH_NORM_EPS, momentum=momentum)


def _weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    return {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _statistics(name: str, channels: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(11)
    arrays = {
        "weight": generator.uniform(0.5, 1.5, channels),
        "bias": generator.normal(0, 0.3, channels),
        "running_mean": generator.normal(0, 0.3, channels),
        "running_var": generator.uniform(0.5, 2, channels),
    }
    return {f"{name}.{part}": array.astype(np.float32) for part, array in arrays.items()}


def _model(name: str, nodes: list[onnx.NodeProto], shape: list[Any], weights: dict[str, np.ndarray]) -> Model:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, key) for key, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return Model.from_bytes(model.SerializeToString())
