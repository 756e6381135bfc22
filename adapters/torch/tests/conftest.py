"""Small networks built with onnx.helper, and the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from portnet_torch import Engine

from portnet.graph.model import Model

Build = Callable[..., Model]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="session")
def build() -> Build:
    """Return a function that makes a `Model` of nodes, inputs {name: shape} and arrays {name: initializer}."""

    def make(nodes, inputs, arrays, outputs=("logits",), opset=21) -> Model:
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return Model.from_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())

    return make


@pytest.fixture
def cnn(build) -> Model:
    """Conv, batch norm, ReLU, convs, pooling and a Gemm: what training has to get right."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)

    arrays = {
        "stem.conv.weight": normal(4, 3, 3, 3),
        "stem.bn.weight": 1 + normal(4),
        "stem.bn.bias": normal(4),
        "stem.bn.running_mean": normal(4),
        "stem.bn.running_var": 1 + np.abs(normal(4)),
        "body.weight": normal(6, 4, 3, 3),
        "body.bias": normal(6),
        "bn2.weight": 1 + normal(6),
        "bn2.bias": normal(6),
        "bn2.running_mean": normal(6),
        "bn2.running_var": 1 + np.abs(normal(6)),
        "fc.weight": normal(6, 5),
        "fc.bias": normal(5),
    }

    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]

    nodes = [
        helper.make_node("Conv", ["x", "stem.conv.weight"], ["a"], "stem.conv", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["a", *norm("stem.bn")], ["b"], "stem.bn"),
        helper.make_node("Relu", ["b"], ["c"], "stem.relu"),
        helper.make_node("Conv", ["c", "body.weight", "body.bias"], ["d"], "body", strides=[2, 2]),
        helper.make_node("BatchNormalization", ["d", *norm("bn2")], ["e"], "bn2", momentum=0.8),
        helper.make_node("Relu", ["e"], ["f"], "body.relu"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["h"], "flatten"),
        helper.make_node("Dropout", ["h"], ["i"], "dropout"),
        helper.make_node("Gemm", ["i", "fc.weight", "fc.bias"], ["logits"], "fc"),
    ]
    return build(nodes, {"x": ["N", 3, 8, 8]}, arrays)
