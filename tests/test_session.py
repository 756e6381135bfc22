"""What a session takes as inputs and how it refuses the rest."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import portnet
from portnet.errors import InputError
from portnet.runtime.session import Session


@pytest.fixture
def session(tmp_path) -> Session:
    """A session of ``y = x * scale``, the scale an input of no dimensions."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "scale"], ["y"])],
        "scaled",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "scaled.onnx")
    return portnet.load(tmp_path / "scaled.onnx")


@pytest.mark.parametrize("scale", [np.array(2, np.float32), np.float32(2)])
def test_scalar_of_numpy_is_an_array_of_no_dimensions(session, scale):
    y = session.run({"x": np.arange(3, dtype=np.float32), "scale": scale})["y"]
    np.testing.assert_array_equal(y, np.array([0, 2, 4], np.float32))


def test_wrong_type_is_told_with_what_was_expected(session):
    with pytest.raises(InputError, match=r"got x: float64 \(3,\).*expected x: float32"):
        session.run({"x": np.arange(3.0), "scale": np.float32(2)})
