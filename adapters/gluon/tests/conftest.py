"""Small networks and numpy's own arithmetic, to hold the engine against."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from portnet_gluon import Engine

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.graph.model import Model


def make_model(nodes, weights, *, inputs=(("x", ("N", 3, 8, 8)),), outputs=("logits",), name="net") -> Model:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(array, n) for n, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return Model.from_bytes(proto.SerializeToString())


def convnet(*, dropout: float = 0.0) -> Model:
    """conv → batch norm → relu → conv → batch norm → relu → mean → dense, 4 classes."""
    rng = np.random.default_rng(7)

    def normal(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    weights = {"conv1.weight": normal(5, 3, 3, 3), "conv2.weight": normal(6, 5, 3, 3), "conv2.bias": normal(6)}
    for name, size in (("bn1", 5), ("bn2", 6)):
        weights |= {f"{name}.weight": 1 + normal(size), f"{name}.bias": normal(size)}
        weights |= {f"{name}.running_mean": normal(size), f"{name}.running_var": 1 + np.abs(normal(size))}
    weights |= {"fc.weight": normal(4, 6), "fc.bias": normal(4)}

    def bn(name, x, y):
        args = [x, *(f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
        return helper.make_node("BatchNormalization", args, [y], name=name, momentum=0.8, epsilon=1e-4)

    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        bn("bn1", "c1", "b1"),
        helper.make_node("Relu", ["b1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "conv2.weight", "conv2.bias"], ["c2"], name="conv2", strides=[2, 2]),
        bn("bn2", "c2", "b2"),
        helper.make_node("Relu", ["b2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
    ]
    features = "f"
    if dropout:
        weights["ratio"] = np.array(dropout, np.float32)
        nodes.append(helper.make_node("Dropout", ["f", "ratio"], ["d"], name="drop"))
        features = "d"
    nodes.append(helper.make_node("Gemm", [features, "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1))
    return make_model(nodes, weights, name="convnet")


def dense() -> Model:
    """One dense layer, 5 features to 3 classes: its gradients are one line of numpy."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.normal(size=(3, 5)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["logits"], name="dense", transB=1)
    return make_model([node], weights, inputs=(("x", ("N", 5)),), name="dense")


def plan_of(model: Model, *, optimizer=None, frozen=(), statistics=(), **others) -> TrainPlan:
    parameters = {
        name: ParameterPlan(trainable=name not in frozen) for name, role in model.roles.items() if role.trainable
    }
    return TrainPlan(optimizer or OptimizerSpec(), parameters, frozenset(statistics), **others)


def batch(model: Model, seed: int = 0, size: int = 6, classes: int = 4):
    rng = np.random.default_rng(seed)
    shape = [size, *model.inputs[0].shape[1:]]
    return rng.normal(size=shape).astype(np.float32), rng.integers(0, classes, size)


def reference(model: Model, feeds):
    """Outputs by onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(onnx.ModelProto.FromString(model.to_bytes())).run(None, feeds)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def build():
    """The functions above, for tests: ``build.convnet()``, ``build.batch(model)``, ..."""
    return SimpleNamespace(
        model=make_model, convnet=convnet, dense=dense, plan=plan_of, batch=batch, reference=reference
    )
