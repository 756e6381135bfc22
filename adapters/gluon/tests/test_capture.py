"""Networks of Gluon, symbols and files, captured and proved against MXNet, and what is said of those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from portnet_gluon.compat import mx

from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.engines import engine
from portnet.errors import InputError, UnsupportedError, WeightsError
from portnet.originals import Request, open_original
from portnet.parity.check import check
from portnet.parity.inputs import random_inputs
from portnet.parity.sides import OnnxruntimeSide, SourceSide

SHAPE = (2, 3, 12, 12)
nn = mx.gluon.nn


def image(shape=SHAPE):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def request(*examples, weights=None, input_shape=None):
    return Request(weights, input_shape, CaptureOptions(examples or None))


def enlivened(block, shape=SHAPE):
    """Return a block whose every parameter and statistic counts, with outputs of order 1."""
    block.initialize()
    block(mx.nd.zeros(shape))
    rng = np.random.default_rng(1)
    for name, each in block.collect_params().items():
        if name.endswith("weight"):
            value = rng.normal(0, np.sqrt(2 / max(1, np.prod(each.shape[1:]))), each.shape)
        elif name.endswith(("gamma", "running_var")):
            value = rng.uniform(0.7, 1.3, each.shape)
        else:
            value = rng.normal(0, 0.2, each.shape)
        each.set_data(mx.nd.array(value))
    return block


def small(prefix="small_"):
    net = nn.HybridSequential(prefix=prefix)
    with net.name_scope():
        net.add(
            *(nn.Conv2D(6, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(2)),
            *(nn.Conv2D(5, 3), nn.BatchNorm(scale=False), nn.LeakyReLU(0.1), nn.GlobalAvgPool2D(), nn.Flatten()),
            *(nn.Dropout(0.5), nn.Dense(4)),
        )
    return enlivened(net)


def proved(capture):
    """Check that the proof is one: two batch sizes, and numbers beside which its tolerance is small."""
    report, model = capture.report, capture.model
    assert report is not None
    assert report.passed
    assert {comparison.batch for comparison in report.comparisons} == {"random, batch 1", "random, batch 3"}
    for value in OnnxruntimeSide(model).run(random_inputs(model, 2)).values():
        assert np.abs(value).max() > 100 * report.tolerance.atol
    return model


class Two(mx.gluon.HybridBlock):
    """Two inputs and two outputs."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        with self.name_scope():
            self.left, self.right = nn.Dense(4), nn.Dense(4)

    def hybrid_forward(self, F, one, other):  # noqa: N803 - as MXNet calls it
        a, b = self.left(one), self.right(other)
        return a * b, F.softmax(a - b)


class Custom(mx.gluon.Block):
    def forward(self, x):
        return x


def trained_for():
    """Return a symbol as the Module API's examples write it, with a head that reads a label."""
    x = mx.sym.var("data")
    x = mx.sym.Convolution(x, kernel=(3, 3), num_filter=5, name="conv")
    x = mx.sym.BatchNorm(x, fix_gamma=True, name="bn")
    x = mx.sym.Activation(x, act_type="relu", name="relu")
    x = mx.sym.FullyConnected(x, num_hidden=3, name="fc")
    return mx.sym.SoftmaxOutput(x, name="softmax")


def module():
    made = mx.mod.Module(trained_for(), label_names=("softmax_label",))
    made.bind([("data", SHAPE)], [("softmax_label", (2,))], for_training=False)
    made.init_params(mx.init.Normal(0.5))
    args, states = made.get_params()
    rng = np.random.default_rng(2)
    states = {name: mx.nd.array(rng.uniform(0.5, 1.5, value.shape)) for name, value in states.items()}
    args["bn_gamma"] = mx.nd.array(rng.uniform(2, 3, 5))
    made.set_params(args, states)
    return made


# ---- what is captured


def test_a_hybrid_block_bears_its_structural_names():
    block = small()
    capture = capture_original(block, request(image()))
    model = proved(capture)
    assert set(model.weights()) >= {"0.weight", "1.gamma", "1.running_var", "10.bias"}
    assert model.inputs[0].shape == ("N", *SHAPE[1:])
    learned = [each for each in block.collect_params().values() if each.grad_req != "null"]
    assert model.parameter_count == sum(each.data().size for each in learned)
    ops = [node.op_type for node in model.ir.graph]
    assert (ops.count("BatchNormalization"), ops.count("Dropout")) == (2, 1)
    expected = block(mx.nd.array(image())).asnumpy()
    assert np.abs(expected).max() > 0.05
    (got,) = OnnxruntimeSide(model).run({model.inputs[0].name: image()}).values()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_hybridized_before_it_is_captured():
    block = small("hybridized_")
    block.hybridize()
    block(mx.nd.array(image()))
    proved(capture_original(block, request(image())))


def test_several_inputs_and_outputs():
    block = Two(prefix="two_")
    block.initialize(mx.init.Normal(0.5))
    examples = image((2, 3)), image((2, 5))
    model = proved(capture_original(block, request(*examples)))
    assert ([port.shape for port in model.inputs], len(model.outputs)) == ([("N", 3), ("N", 5)], 2)


def test_files_and_everything_made_of_them(tmp_path):
    block = small("exported_")
    block.hybridize()
    block(mx.nd.array(image()))
    block.export(str(tmp_path / "net"))
    file = tmp_path / "net-symbol.json"
    model = proved(capture_original(file, request(input_shape=SHAPE)))
    expected = block(mx.nd.array(image())).asnumpy()
    (got,) = OnnxruntimeSide(model).run({"data": image()}).values()
    np.testing.assert_allclose(got, expected, atol=1e-5)

    symbols = mx.gluon.SymbolBlock.imports(str(file), ["data"], str(tmp_path / "net-0000.params"))
    proved(capture_original(symbols, request(image())))
    symbol, args, states = mx.model.load_checkpoint(str(tmp_path / "net"), 0)
    proved(capture_original((symbol, args, states), request(image())))
    proved(capture_original((symbol, {**args, **states}), request(image())))


def test_the_highest_epoch_beside_a_symbol_is_read(tmp_path):
    block = small("epochs_")
    block.hybridize()
    block(mx.nd.array(image()))
    block.export(str(tmp_path / "net"), epoch=2)
    block[10].bias.set_data(mx.nd.array([9.0, 8, 7, 6]))
    block.export(str(tmp_path / "net"), epoch=11)
    model = proved(capture_original(tmp_path / "net-symbol.json", request(input_shape=SHAPE)))
    assert list(model.weights()[block[10].bias.name]) == [9, 8, 7, 6]


def test_a_module_loses_its_label():
    made = module()
    capture = capture_original(made, request(image()))
    model = proved(capture)
    assert [port.name for port in model.inputs] == ["data"]
    assert "SoftmaxOutput 'softmax' is a head for training: its Softmax stays, its label is left out" in capture.notes
    made.forward(mx.io.DataBatch([mx.nd.array(image())]), is_train=False)
    expected = made.get_outputs()[0].asnumpy()
    (got,) = OnnxruntimeSide(model).run({"data": image()}).values()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    # fix_gamma: MXNet reads ones, whatever the file says
    assert set(np.ravel(model.weights()["bn_gamma"])) == {1.0}


def test_a_network_of_the_zoo_says_that_its_weights_are_random(monkeypatch, tmp_path):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    original = open_original("gluon:resnet18_v1", request(input_shape=(1, 3, 64, 64)))
    assert any("random" in note for note in original.captured.notes), original.captured.notes
    assert original.captured.model.name == "resnet18_v1"
    assert original.captured.model.parameter_count == 11_689_512


def test_random_weights_of_the_zoo_give_outputs_that_can_be_compared():
    proved(capture_original("gluon:mobilenetv2_0.25", request(input_shape=(1, 3, 64, 64))))


def test_weights_that_mxnet_fetched_before_are_not_random(tmp_path):
    from portnet_gluon.open import open_network

    block = open_network("gluon:squeezenet1.1")
    block(mx.nd.zeros((1, 3, 224, 224)))
    block.save_parameters(str(tmp_path / "own.params"))
    again = open_network("gluon:squeezenet1_1", tmp_path / "own.params")
    capture = capture_original(again, request(image((1, 3, 224, 224))))
    assert not any("random" in note for note in capture.notes)
    for one, other in zip(block.collect_params().values(), again.collect_params().values(), strict=True):
        np.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy())


def test_an_architecture_without_weights(tmp_path):
    trained_for().save(str(tmp_path / "bare-symbol.json"))
    capture = capture_original(tmp_path / "bare-symbol.json", request(input_shape=SHAPE))
    assert proved(capture).parameter_count == 5 * 27 + 5 + 5 + 3 * 500 + 3
    assert "it came without weights; its parameters are random" in capture.notes


# ---- the check can fail


def test_a_broken_weight_is_found_at_its_layer(tmp_path):
    block = small("broken_")
    original = open_original(block, request(image()))
    model = original.captured.model
    weights = dict(model.weights())
    broken = model.with_weights({"4.weight": weights["4.weight"] * 1.5})
    report = check(OnnxruntimeSide(broken), SourceSide(original.source, model))
    assert not report.passed
    assert "conv1" in str(report), report


def test_every_layer_of_a_block_can_be_cut_at():
    original = open_original(small("cut_"), request(image()))
    model = original.captured.model
    feeds = {model.inputs[0].name: image()}
    for node in list(model.ir.graph):
        tensor = node.outputs[0].name
        (value,) = original.source.at(tensor).run(feeds).values()
        assert np.abs(value).max() > 0
    with pytest.raises(UnsupportedError, match="cannot be cut at 'nowhere'"):
        original.source.at("nowhere")


# ---- what is refused


def test_refusals():
    with pytest.raises(UnsupportedError, match=r"Custom is a gluon\.Block: its forward is Python"):
        open_original(Custom(), request(image()))
    waiting = nn.Dense(3, prefix="waiting_")
    with pytest.raises(InputError, match="waiting has no weights: 'waiting_weight' is not initialised"):
        open_original(waiting, request(image((1, 4))))
    waiting.initialize()
    with pytest.raises(InputError, match=r"'waiting_weight' has no shape yet.*or give an example input"):
        open_original(waiting)
    with pytest.raises(WeightsError, match=r"'0.weight' got shape \(6, 3, 3, 3\), expected \(6, 5, 3, 3\)"):
        open_original(small(), request(image((1, 5, 12, 12))))
    deep = nn.HybridSequential(prefix="deep_")
    deep.add(nn.Conv2D(2, 5, prefix="first_"))
    deep.initialize()
    with pytest.raises(InputError, match="deep does not run on the example input") as raised:
        open_original(deep, request(image((1, 1, 3, 3))))
    assert "\n" not in str(raised.value)


def test_layers_without_a_translation_are_named_together():
    x = mx.sym.var("data", shape=(2, 3, 8, 8))
    grid = mx.sym.BilinearSampler(x, mx.sym.var("grid", shape=(2, 2, 4, 4)), name="sampled")
    pair = mx.sym.Group([grid, mx.sym.Correlation(x, x, name="correlated")])
    with pytest.raises(
        UnsupportedError, match=r"got 2 layers.*BilinearSampler \(sampled\); Correlation \(correlated\)"
    ):
        open_original((pair, {}))


@pytest.mark.parametrize("options", [{"num_layers": 2, "bidirectional": True}, {}])
def test_a_recurrent_block_goes_round_with_its_names_and_its_count(options):
    net = nn.HybridSequential()
    net.add(mx.gluon.rnn.LSTM(4, input_size=3, **options), nn.Dense(5, flatten=False))
    enlivened(net, (6, 2, 3))
    x = image((6, 2, 3))
    first = capture_original(net, request(mx.nd.array(x)))
    assert first.report.passed
    assert first.model.parameter_count == sum(each.data().size for each in net.collect_params().values())
    names = [name for name, role in first.model.roles.items() if role.trainable]
    assert names[:3] == ["0.l0.weight_ih", "0.l0.weight_hh", "0.l0.bias"]
    again = capture_original(engine("gluon").lower(first.model).native, request(mx.nd.array(x)))
    assert again.report.passed
    arrays = again.model.weights()
    assert [name for name, role in again.model.roles.items() if role.trainable] == names
    assert all(np.array_equal(arrays[name], first.model.weights()[name]) for name in names)


def test_cells_of_a_symbol_start_from_zeros_of_any_batch(tmp_path):
    """``mx.rnn``'s cells start from ``_zeros`` of shape (0, hidden), whose batch MXNet finds out backwards."""
    cells = mx.rnn.SequentialRNNCell()
    cells.add(mx.rnn.LSTMCell(6, prefix="a_"))
    cells.add(mx.rnn.GRUCell(5, prefix="b_"))
    steps, _ = cells.unroll(4, inputs=mx.sym.var("data"), merge_outputs=True, layout="NTC")
    symbol = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(steps, num_hidden=3, name="fc"), name="softmax")
    shapes, _, _ = symbol.infer_shape(data=(2, 4, 5))
    arrays = {
        f"arg:{name}": mx.nd.random.normal(shape=shape)
        for name, shape in zip(symbol.list_arguments(), shapes, strict=True)
        if name not in ("data", "softmax_label")
    }
    symbol.save(str(tmp_path / "cells-symbol.json"))
    mx.nd.save(str(tmp_path / "cells-0000.params"), arrays)
    result = capture_original(tmp_path / "cells-symbol.json", Request(None, (2, 4, 5)))
    assert result.report.passed
    assert result.model.parameter_count == sum(array.size for array in arrays.values())


def test_whole_numbers_of_a_block_from_files_do_not_train(tmp_path):
    """``SymbolBlock.imports`` takes every array for one that training moves."""
    taken = mx.sym.take(mx.sym.var("data"), mx.sym.var("places"), axis=1)
    mx.sym.FullyConnected(taken, num_hidden=2, name="fc").save(str(tmp_path / "net-symbol.json"))
    arrays = {
        "places": mx.nd.array([0, 3, 1], dtype="int32"),
        "fc_weight": mx.nd.ones((2, 3)),
        "fc_bias": mx.nd.ones(2),
    }
    mx.nd.save(str(tmp_path / "net.params"), {f"arg:{name}": array for name, array in arrays.items()})
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net.params"))
    model = capture_original(block, request(image((2, 5)))).model
    assert [name for name, role in model.roles.items() if role.trainable] == ["fc_weight", "fc_bias"]
