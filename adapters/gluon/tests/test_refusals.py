"""What MXNet refuses is told with op, opset and node, and with MXNet's reason alone."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from portnet import Model
from portnet.engines import engine
from portnet.errors import UnsupportedError


def refused(nodes, inputs, arrays):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(UnsupportedError) as caught:
        engine("gluon").lower(Model.from_bytes(model.SerializeToString()))
    return caught.value


def test_inference_names_the_node():
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], name="before"),
        helper.make_node("ConvTranspose", ["a", "w"], ["y"], name="up", dilations=[1, 2, 2]),
    ]
    arrays = {"w": np.ones((2, 1, 2, 2, 2), np.float32)}
    error = refused(nodes, {"x": (TensorProto.FLOAT, [1, 2, 4, 4, 4])}, arrays)
    told = "gluon: ConvTranspose (opset 21) node 'up': MXNet: Dilate is not supported in 3d deconvolution"
    assert str(error) == told
    assert (error.op, error.node) == ("ConvTranspose", "up")


def test_a_kernel_that_is_missing_is_found_by_bisection():
    nodes = [
        helper.make_node("Abs", ["x"], ["n"], name="before"),
        helper.make_node("Softmax", ["n"], ["p"], name="top"),
        helper.make_node("Abs", ["p"], ["y"], name="after"),
    ]
    error = refused(nodes, {"x": (TensorProto.INT32, [2, 3])}, {})
    assert str(error).startswith("gluon: Softmax (opset 21) node 'top': MXNet: ")
