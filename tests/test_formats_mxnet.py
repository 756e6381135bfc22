"""MXNet's files, of any age: what is read computes what MXNet computes from them, and broken ones end in one line."""

import json

import mxnet_files
import numpy as np
import pytest
from mxnet_files import EDITIONS, IMAGE, NETWORK, STATES

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.capturing import capture_original
from portnet.engines import engine
from portnet.errors import InputError, PortNetError, UnsupportedError
from portnet.formats import mxnet
from portnet.originals import Request
from portnet.runtime.session import Session


def images(batch=2):
    return np.random.default_rng(0).normal(size=(batch, *IMAGE[1:])).astype(np.float32)


def in_numpy(x, w):
    """Compute the network of `mxnet_files` by hand."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, w["conv1_weight"])
    mean, var = (w[f"bn1_moving_{each}"][:, None, None] for each in ("mean", "var"))
    y = (y - mean) / np.sqrt(var + 1e-3) * w["bn1_gamma"][:, None, None] + w["bn1_beta"][:, None, None]
    y = np.maximum(y, 0)[:, :, :10, :8].reshape(len(x), 6, 5, 2, 4, 2).max((3, 5)).reshape(len(x), -1)
    y = y @ w["fc_weight"].T + w["fc_bias"]
    y = np.exp(y - y.max(1, keepdims=True))
    return y / y.sum(1, keepdims=True)


@pytest.mark.parametrize("edition", EDITIONS)
def test_files_of_any_age_compute_the_same(edition, tmp_path):
    path, _ = mxnet_files.write(tmp_path, edition=edition)
    captured = mxnet.read(path, input_shape=IMAGE)
    model, arrays = captured.model, mxnet_files.draw()
    assert model.inputs[0].shape == ("N", *IMAGE[1:])
    assert [port.name for port in model.outputs] == ["softmax"]
    expected = in_numpy(images(3), arrays)
    np.testing.assert_allclose(Session(model).run({"data": images(3)})["softmax"], expected, atol=1e-5)
    for name, array in arrays.items():
        np.testing.assert_array_equal(model.weights()[name], array)
    assert model.parameter_count == sum(array.size for name, array in arrays.items() if name not in STATES)


@pytest.mark.parametrize("edition", EDITIONS)
def test_they_compute_what_mxnet_computes(edition, tmp_path):
    path, _ = mxnet_files.write(tmp_path, edition=edition)
    capture = capture_original(path, Request(input_shape=IMAGE))
    assert capture.unproved == ""
    assert capture.report.passed
    assert any("SoftmaxOutput 'softmax' is a head for training" in note for note in capture.notes)


@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
def test_captured_networks_train(backend, tmp_path):
    model = mxnet.read(mxnet_files.write(tmp_path)[0], input_shape=IMAGE).model
    lowered = engine(backend).lower(model)
    np.testing.assert_allclose(
        lowered.run({"data": images()})["softmax"], in_numpy(images(), model.weights()), atol=1e-5
    )
    names = [key for key, role in lowered.model.roles.items() if role.trainable]
    before = lowered.weights()
    plan = TrainPlan(OptimizerSpec(lr=0.1), {key: ParameterPlan() for key in names})
    lowered.trainer(plan).step(images(), np.array([0, 1]))
    assert all(not np.array_equal(before[key], new) for key, new in lowered.weights().items() if key in names)


def test_an_output_with_a_margin_for_the_label_is_left_out(tmp_path):
    """As networks for faces are trained: the embedding, and beside it classes less a margin where the label is."""
    margin = (
        ("BlockGrad", "embedding", {}, ("fc",)),
        ("one_hot", "hot", {"depth": "4", "on_value": "22.4", "off_value": "0.0"}, ("softmax_label",)),
        ("elemwise_sub", "less", {}, ("fc", "hot")),
        ("SoftmaxOutput", "margin", {}, ("less", "softmax_label")),
    )
    layers = (*NETWORK[:-1], *margin)
    path, _ = mxnet_files.write(tmp_path, layers)
    tree = mxnet_files.symbol(layers)
    names = [node["name"] for node in tree["nodes"]]
    tree["heads"] = [[names.index("margin"), 0, 0], [names.index("embedding"), 0, 0]]
    path.write_text(json.dumps(tree))
    capture = capture_original(path, Request(input_shape=IMAGE))
    assert [port.name for port in capture.model.outputs] == ["fc"]
    assert [port.name for port in capture.model.inputs] == ["data"]
    assert capture.report.passed
    assert "output 'margin' is computed with labels, for training: left out" in capture.notes


def test_what_ctc_judges_is_a_softmax(tmp_path):
    ctc = ("WarpCTC", "ctc", {"label_length": "2", "input_length": "1"}, ("fc", "label"))
    layers = (*NETWORK[:-1], ctc)
    model = mxnet.read(mxnet_files.write(tmp_path, layers)[0], input_shape=IMAGE).model
    expected = in_numpy(images(), model.weights())
    np.testing.assert_allclose(Session(model).run({"data": images()})["ctc"], expected, atol=1e-5)


def test_an_architecture_alone_draws_its_weights(tmp_path):
    path, params = mxnet_files.write(tmp_path)
    params.unlink()
    captured = mxnet.read(path, input_shape=IMAGE)
    assert "it came without weights; its parameters are random" in captured.notes
    weights = captured.model.weights()
    assert {name: weights[name].shape for name in mxnet_files.SHAPES} == mxnet_files.SHAPES


# ---- what is refused


def changed(change, edition="1.9"):
    tree = mxnet_files.symbol(edition=edition)
    change(tree)
    return json.dumps(tree)


def at(index, **members):
    return changed(lambda tree: tree["nodes"][index].update(members))


def attribute(name, **attributes):
    def change(tree):
        next(node for node in tree["nodes"] if node["name"] == name)["attrs"].update(attributes)

    return changed(change)


DEEP = "[" * 100_000
REFUSED = {
    "no JSON": ("{nodes", "is no JSON"),
    "nested": (DEEP, "is no JSON"),
    "not text": (b"\xff\xfe\x00", "is no JSON"),
    "a list": ("[]", "is no symbol of MXNet"),
    "no nodes": ('{"nodes": []}', "is no symbol of MXNet"),
    "a node that is none": ('{"nodes": [1], "heads": [[0, 0]]}', "node 0 is no object"),
    "no name": (at(0, name=None), "node 0 lacks an op or a name"),
    "unprintable": (at(0, name="a\nb"), "cannot be printed"),
    "no heads": (changed(lambda tree: tree.update(heads=[])), "without heads"),
    "heads": (changed(lambda tree: tree.update(heads=[[999, 0, 0]])), "got node 999 output 0, expected one of"),
    "a cycle": (at(2, inputs=[[2, 0, 0]]), "got node 2 output 0, expected one of the 2 nodes before"),
    "negative": (at(2, inputs=[[-1, 0, 0]]), "got node -1"),
    "no number": (at(2, inputs=[["0", 0, 0]]), r"expected \[node, output, version\]"),
    "true": (at(2, inputs=[[True, 0, 0]]), r"expected \[node, output, version\]"),
    "no such output": (changed(lambda tree: tree.update(heads=[[2, 7, 0]])), "output 7"),
    "attributes": (at(2, attrs=[]), "attrs got no object"),
    "kernel": (attribute("conv1", kernel="(3, x)"), "layer 'conv1' .Convolution.: kernel got 'x', expected an integer"),
    "huge kernel": (attribute("conv1", kernel="(9999999999, 3)"), "conv1"),
    "filters": (attribute("conv1", num_filter="999999999999"), "conv1"),
    "no filters": (attribute("conv1", num_filter="0"), "num_filter got '0', expected at least 1"),
    "unknown attribute": (attribute("relu1", secret="3"), r"Activation: secret=3 \(relu1\)"),
    "shapes": (attribute("fc", num_hidden="5"), r"'fc_weight' got shape \(4, 120\), expected \(5, 120\)"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_broken_symbol_ends_in_one_line(text, message, tmp_path):
    path, _ = mxnet_files.write(tmp_path)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PortNetError, match=message) as raised:
        mxnet.read(path, input_shape=IMAGE)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty|no weights"),
        (b"\x13\x01" + bytes(30), "unknown|no weights|expected"),
        (mxnet_files.params(mxnet_files.draw())[:-30], "ends|cut|short|truncated|beyond|bytes"),
        (mxnet_files.params({"conv1_weight": np.zeros((6, 3, 3, 3), np.float32)}), "no array for 'bn1_gamma'"),
    ],
    ids=["empty", "wrong magic", "cut off", "too few"],
)
def test_broken_params_end_in_one_line(data, message, tmp_path):
    path, params = mxnet_files.write(tmp_path)
    params.write_bytes(data)
    with pytest.raises(PortNetError, match=message) as raised:
        mxnet.read(path, input_shape=IMAGE)
    assert "\n" not in str(raised.value)


def test_layers_without_a_translation_are_named_together(tmp_path):
    unknown = (("Custom", "own", {"op_type": "mine"}, ("data",)), ("Proposal", "boxes", {}, ("own", "own", "own")))
    path, _ = mxnet_files.write(tmp_path, (*unknown, *NETWORK))
    tree = mxnet_files.symbol((*unknown, *NETWORK))
    tree["heads"].append([2, 0, 0])
    path.write_text(json.dumps(tree))
    with pytest.raises(UnsupportedError, match=r"net: got 2 layers.*Custom: mine \(own\); Proposal \(boxes\)"):
        mxnet.read(path, input_shape=IMAGE)


def test_a_shape_that_nobody_tells_is_asked_for(tmp_path):
    path, _ = mxnet_files.write(tmp_path)
    with pytest.raises(InputError, match=r"nothing of its shape of input 'data'. Give input_shape, as in \(1, 3, 224"):
        mxnet.read(path)
    with pytest.raises(InputError, match="no such file"):
        mxnet.read(tmp_path / "other-symbol.json")
