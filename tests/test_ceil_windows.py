"""Pools in ceil mode, whose last window may begin in the padding, of fixed and of free sizes, against onnxruntime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import portnet
from portnet.graph.model import Model
from portnet.runtime.session import Session

WINDOWS = [
    {"kernel_shape": [1], "strides": [3]},
    {"kernel_shape": [2], "strides": [3]},
    {"kernel_shape": [2], "strides": [2], "pads": [0, 1]},
    {"kernel_shape": [3], "strides": [4], "pads": [1, 2]},
    {"kernel_shape": [3], "strides": [2], "pads": [2, 1]},
]


def pools(size, opset):
    nodes = [
        helper.make_node(op, ["x"], [f"{op}{i}"], ceil_mode=1, **window)
        for op in ("MaxPool", "AveragePool", "LpPool")
        for i, window in enumerate(WINDOWS)
        if opset >= 18 or op != "LpPool"
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, size])
    outputs = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    graph = helper.make_graph(nodes, "g", [x], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return Model.from_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


@pytest.mark.parametrize(("size", "opset"), [(6, 12), (7, 19), (8, 22), ("size", 19)])
@pytest.mark.parametrize("name", ["torch", "keras", "gluon"])
def test_windows_that_begin_in_the_padding_are_left_out(name, size, opset):
    pytest.importorskip(f"portnet_{name}")
    model = pools(size, opset)
    lowered, session = portnet.engine(name).lower(model), Session(model)
    for count in (5, 6, 7, 9) if size == "size" else (size,):
        feeds = {"x": np.random.default_rng(count).normal(size=(2, 3, count)).astype(np.float32)}
        expected, got = session.run(feeds), lowered.run(feeds)
        for key, value in expected.items():
            assert got[key].shape == value.shape, key
            np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-6)
