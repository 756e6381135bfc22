"""An If whose condition is computed is a layer of two networks."""

import keras
import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from portnet.graph.model import Model
from portnet.runtime.session import Session


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(text, **weights):
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return Model.from_bytes(proto.SerializeToString())


def test_a_branch_that_the_data_choose_trains_is_saved_and_runs_alone(engine, tmp_path):
    model = parse(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x, bool c) => (float[N,P] y)
        { y = If(c) <then_branch = t () => (float[N,P] a) { a = MatMul(x, w) },
                     else_branch = e () => (float[N,P] b) { m = MatMul(x, v) s = Relu(m) b = Add(s, u) }> }""",
        w=array(4, 3),
        v=array(4, 3),
        u=array(3),
    )
    lowered = engine.lower(model)
    assert lowered.trainable_count == 27
    lowered.native.save(tmp_path / "n.keras")
    reloaded = keras.saving.load_model(tmp_path / "n.keras")
    session = Session(model)
    for n, chosen in ((1, True), (3, False)):
        feed = {"x": array(n, 4), "c": np.array(chosen)}
        expected = session.run(feed)["y"]
        np.testing.assert_allclose(lowered.run(feed)["y"], expected, rtol=1e-5)
        np.testing.assert_allclose(reloaded([feed["x"], feed["c"]]), expected, rtol=1e-5)


def test_an_axis_that_is_squeezed_where_it_is_1_is_squeezed(engine):
    model = parse("""<ir_version: 8, opset_import: ["" : 17]> g (float[N,2,L] x) => (float[N,2] y) {
        s = Shape(x) at = Constant<value = int64 {2}>() n = Gather(s, at) one = Constant<value = int64 {1}>()
        is = Equal(n, one) axis = Constant<value = int64[1] {2}>()
        y = If(is) <then_branch = t () => (float[N,2] a) { a = Squeeze(x, axis) },
                    else_branch = e () => (float[N,2,L] b) { b = Identity(x) }> }""")
    lowered = engine.lower(model)
    assert lowered.run({"x": np.ones((3, 2, 1), np.float32)})["y"].shape == (3, 2)
    with pytest.raises(Exception, match="reshape"):
        lowered.run({"x": np.ones((3, 2, 2), np.float32)})
