"""What a lowered network is: native, trainable, named as ONNX names it, exact."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from portnet_gluon.compat import mx

from portnet import convert
from portnet.errors import InputError, UnsupportedError, WeightsError
from portnet.graph.model import Model


def test_outputs_equal_the_reference_at_several_batch_sizes(engine, build):
    model = build.convnet()
    lowered = engine.lower(model)
    for size in (1, 2, 5):
        x, _ = build.batch(model, size=size)
        np.testing.assert_allclose(lowered.predict(x), build.reference(model, {"x": x})[0], atol=1e-5)


def test_the_network_is_a_native_one(engine, build):
    lowered = engine.lower(build.convnet())
    assert isinstance(lowered.native, mx.gluon.SymbolBlock)
    operators = {n.name for n in lowered.native._cached_graph[1].get_internals() if n.get_children() is not None}
    assert {"conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "pool", "flat", "fc"} <= operators


def test_names_and_counts_are_those_of_onnx(engine, build):
    model = build.convnet(dropout=0.5)
    lowered = engine.lower(model)
    own = {name for name, role in model.roles.items() if role.value != "constant"}
    assert set(lowered.weights()) == own <= set(lowered.native.collect_params())
    assert lowered.trainable_count == model.parameter_count
    for name, array in lowered.weights().items():
        np.testing.assert_array_equal(array, model.weights()[name])


def test_weights_go_in_and_out(engine, build):
    model = build.dense()
    lowered = engine.lower(model)
    doubled = {name: 2 * array for name, array in lowered.weights().items()}
    lowered.set_weights(doubled)
    x, _ = build.batch(model)
    np.testing.assert_allclose(lowered.predict(x), build.reference(model.with_weights(doubled), {"x": x})[0], atol=1e-5)
    with pytest.raises(WeightsError, match="no initializer named 'v'"):
        lowered.set_weights({"v": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError, match=r"'b' got shape \(4,\), expected \(3,\)"):
        lowered.set_weights({"w": 0 * doubled["w"], "b": np.zeros(4, np.float32)})
    np.testing.assert_array_equal(lowered.weights()["w"], doubled["w"])


def test_inputs_are_checked(engine, build):
    lowered = engine.lower(build.dense())
    with pytest.raises(InputError, match="got float64, expected float32"):
        lowered.predict(np.zeros((2, 5)))
    with pytest.raises(InputError, match=r"got shape \(2, 6\)"):
        lowered.predict(np.zeros((2, 6), np.float32))


def test_an_op_without_lowering_is_refused_in_one_line(engine, build):
    node = helper.make_node("NonMaxSuppression", ["x", "x"], ["logits"], name="odd")
    with pytest.raises(UnsupportedError) as info:
        engine.lower(build.model([node], {}, inputs=(("x", (1, 3, 4)),)))
    assert str(info.value).startswith("gluon: NonMaxSuppression (opset 21) node 'odd': ")
    assert "\n" not in str(info.value)


def test_a_tensor_that_mxnet_infers_otherwise_is_refused(engine, build, monkeypatch):
    from portnet_gluon.ops import TABLE

    monkeypatch.setitem(TABLE, "Relu", lambda walk, node: __import__("mxnet").sym.sum(walk.value(node.required(0))))
    node = helper.make_node("Relu", ["x"], ["logits"], name="relu")
    with pytest.raises(UnsupportedError, match="would have shape"):
        engine.lower(build.model([node], {}, inputs=(("x", (2, 3)),)))


def test_numpy_is_left_as_it_was_found():
    code = "import numpy as np; before = set(vars(np)); import portnet_gluon.compat; assert 'bool' not in vars(np)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_creating_the_engine_imports_no_framework():
    code = "import sys; from portnet_gluon import Engine; Engine(); assert 'mxnet' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def proto_of(graph):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


def test_a_number_beside_an_array_is_an_array_of_one(engine):
    """Outside ``mx.util.np_shape``, where users are, a shape without axes is an unknown one."""
    scale = numpy_helper.from_array(np.float32(0.5), "scale")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "scale"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [scale],
    )
    native = engine.lower(Model.from_bytes(proto_of(graph))).native
    for size in (1, 2):
        np.testing.assert_allclose(native(mx.nd.ones((size, 3))).asnumpy(), np.full((size, 3), 0.5))
    graph.output.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    _, number = engine.lower(Model.from_bytes(proto_of(graph))).predict(np.ones((2, 3), np.float32))
    assert number.shape == ()


def test_what_was_frozen_holds_still_when_the_block_is_trained(build):
    model = build.convnet()
    held = ["bn1.running_mean", "bn1.running_var"]
    model.metadata.provenance["frozen"] = {"parameters": ["conv1.weight"], "statistics": held}
    native = convert(model, to="gluon")
    before = {name: each.data().asnumpy().copy() for name, each in native.collect_params().items()}
    with mx.autograd.record():
        loss = native(mx.nd.random.normal(shape=(4, 3, 8, 8))).sum()
    loss.backward()
    mx.nd.waitall()
    moved = {n for n, each in native.collect_params().items() if not np.array_equal(each.data().asnumpy(), before[n])}
    assert moved == {"bn2.running_mean", "bn2.running_var"}
    assert native.collect_params()["conv1.weight"].grad_req == "null"
