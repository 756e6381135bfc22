"""Networks of more layers in a row than Python calls within calls by default."""

import sys

import numpy as np
from onnx import helper

from portnet.conversion import convert_to_file


def test_a_network_of_1100_layers_in_a_row_is_built_and_written_and_read_back(engine, build, tmp_path):
    count, before = 1100, sys.getrecursionlimit()
    nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i in range(count)]
    model = build(nodes, {"t0": ("N", 4)}, outputs=[f"t{count}"])
    x = np.ones((2, 4), np.float32)
    assert (engine.lower(model).run({"t0": x})[f"t{count}"] == x).all()
    convert_to_file(model, to="keras", output=tmp_path / "deep.keras")
    assert sys.getrecursionlimit() == before
