"""torch.export and free sizes: what it makes of them is told; what is too short to be traced is made longer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from portnet.conversion import convert_to_file
from portnet.errors import ParityError, UnsupportedError

RNG = np.random.default_rng(0)


def network(path, nodes, shape, arrays):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32) / 4


@pytest.fixture
def sound(tmp_path):
    """A stem for sound, which 16 samples are too few for."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="stem", strides=[8]),
        helper.make_node("Conv", ["c", "v"], ["y"], name="next", strides=[2]),
    ]
    return network(tmp_path / "sound.onnx", nodes, ["n", 1, "length"], {"w": floats(4, 1, 24), "v": floats(2, 4, 5)})


def test_a_length_is_found_that_can_be_traced(sound, tmp_path):
    done = convert_to_file(sound, to="torch", output=tmp_path / "sound.pt2")
    assert done.reloaded.passed


def recurrent(tmp_path, batch):
    nodes = [helper.make_node("GRU", ["seq", "w", "r"], ["y"], name="gru", hidden_size=3, linear_before_reset=1)]
    nodes.insert(0, helper.make_node("Transpose", ["x"], ["seq"], name="time_first", perm=[1, 0, 2]))
    return network(tmp_path / "gru.onnx", nodes, [batch, "t", 4], {"w": floats(1, 9, 4), "r": floats(1, 9, 3)})


def test_a_fixed_length_is_told(tmp_path):
    done = convert_to_file(recurrent(tmp_path, "n"), to="torch", output=tmp_path / "gru.pt2")
    assert "x: axis 1 is fixed at 16" in done.notes


def test_a_length_that_is_fixed_behind_a_stride_is_told(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["c"], name="stem", strides=[4]),
        helper.make_node("Transpose", ["c"], ["seq"], name="time_first", perm=[2, 0, 1]),
        helper.make_node("GRU", ["seq", "w", "r"], ["y"], name="gru", hidden_size=3, linear_before_reset=1),
    ]
    arrays = {"stem": floats(4, 2, 4), "w": floats(1, 9, 4), "r": floats(1, 9, 3)}
    path = network(tmp_path / "gru.onnx", nodes, [3, 2, "t"], arrays)
    done = convert_to_file(path, to="torch", output=tmp_path / "gru.pt2")
    assert any("sizes near those of the trace alone: x (3, 2, 16)" in note for note in done.notes), done.notes


def test_a_file_that_fails_where_the_network_does_not_says_what_else_there_is(tmp_path):
    """An axis between two fixed ones is taken for the batch of a state, and tried at sizes that were not traced."""
    with pytest.raises(ParityError, match=r"try another format \(safetensors, code\), sizes fixed"):
        convert_to_file(recurrent(tmp_path, 2), to="torch", output=tmp_path / "gru.pt2")
    assert not (tmp_path / "gru.pt2").exists()
    assert convert_to_file(recurrent(tmp_path, 2), to="torch", output=tmp_path / "gru").reloaded.passed


def test_a_network_that_cannot_be_traced_is_one_line(tmp_path, capfd):
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "scores", "most"], ["found"], name="found"),
        helper.make_node("Cast", ["found"], ["y"], to=TensorProto.FLOAT),
    ]
    path = network(tmp_path / "found.onnx", nodes, [1, 6, 4], {"scores": floats(1, 2, 6), "most": np.array([3])})
    with pytest.raises(UnsupportedError, match=r"torch\.export cannot trace the network: [^\n]*$"):
        convert_to_file(path, to="torch", output=tmp_path / "found.pt2")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
