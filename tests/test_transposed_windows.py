"""Transposed convolutions of fixed and free sizes whose padding frameworks know differently, against onnxruntime."""

import pytest
from onnx import TensorProto, helper, numpy_helper
from test_free_sizes import agree, array, engine

from portnet.errors import UnsupportedError
from portnet.graph.model import Model

__all__ = ["engine"]

WINDOWS = [
    {"output_padding": [2, 1], "strides": [3, 2]},
    {"output_padding": [2, 2], "strides": [3, 3], "pads": [1, 1, 0, 1]},
    {"output_padding": [1, 0], "strides": [2, 2], "pads": [0, 2, 1, 0]},
    {"strides": [2, 3], "pads": [1, 0, 0, 1], "dilations": [2, 1]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "output_shape": [9, 8]},
    {"strides": [2, 2], "output_shape": [10, 10], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "output_shape": [10, 9], "auto_pad": "SAME_LOWER"},
]


def transposed(window, sizes, bias):
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    node = helper.make_node("ConvTranspose", inputs, ["y"], **window)
    arrays = {"w": array(3, 2, 3, 3, seed=1), "b": array(2, seed=2)}
    tensors = [numpy_helper.from_array(arrays[name], name) for name in inputs[1:]]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *sizes])
    graph = helper.make_graph([node], "g", [x], [helper.make_empty_tensor_value_info("y")], tensors)
    return Model.from_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("window", WINDOWS, ids=range(len(WINDOWS)))
def test_what_lies_beyond_the_windows_is_the_bias(engine, window, bias):
    agree(engine, transposed(window, (4, 5), bias), {"x": array(2, 3, 4, 5)})
    free = transposed(window, ("H", "W"), bias)
    if "output_shape" in window and engine.name != "gluon":
        with pytest.raises(UnsupportedError, match=r"ConvTranspose .* node 'y': output_shape "):
            engine.lower(free)
        return
    feeds = [array(2, 3, 4, 5)] if "output_shape" in window else [array(2, 3, 4, 5), array(1, 3, 5, 4)]
    agree(engine, free, *({"x": x} for x in feeds))
