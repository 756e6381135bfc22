"""Small networks built with onnx.helper, and the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from portnet_keras import Engine

from portnet.adapter import Lowered
from portnet.graph.model import Model

Build = Callable[..., Model]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="session")
def build() -> Build:
    """Return a function that makes a `Model` of nodes, inputs {name: shape} and arrays {name: initializer}."""

    def make(
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, Sequence[int | str]],
        arrays: Mapping[str, np.ndarray] | None = None,
        outputs: Sequence[str] = ("y",),
    ) -> Model:
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in (arrays or {}).items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return Model.from_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())

    return make


@pytest.fixture(scope="session")
def assert_like_onnxruntime() -> Callable[..., None]:
    """Return a function that compares a lowered network with onnxruntime on given arrays."""

    def check(lowered: Lowered, model: Model, *arrays: np.ndarray, atol: float = 1e-5) -> None:
        session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
        feeds = dict(zip([port.name for port in model.inputs], arrays, strict=True))
        expected, got = session.run(None, feeds), lowered.run(feeds)
        assert len(expected) == len(got)
        for array, result in zip(expected, got.values(), strict=True):
            assert result.shape == array.shape
            assert result.dtype == array.dtype
            np.testing.assert_allclose(result, array, atol=atol, rtol=1e-4)

    return check
