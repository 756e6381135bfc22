"""Gradients that are allocated late behave as Gluon's own."""

import subprocess
import sys

import numpy as np
import pytest
from portnet_gluon.compat import mx
from portnet_gluon.parameter import Parameter

W = np.arange(15, dtype=np.float32).reshape(5, 3)


def _block(kind):
    """Return a dense block over one parameter of a class, and the parameter."""
    x, weight = mx.sym.var("x"), mx.sym.var("w", shape=W.shape)
    parameter = kind("w", shape=W.shape)
    parameter.initialize(mx.init.Constant(mx.nd.array(W)), ctx=mx.cpu())
    parameters = mx.gluon.ParameterDict()
    parameters._params["w"] = parameter
    dense = mx.sym.FullyConnected(x, weight, no_bias=True, num_hidden=5)
    block = mx.gluon.SymbolBlock([dense], [x], params=parameters)
    block.hybridize(static_alloc=True, static_shape=True)
    return block, parameter


def _backward(block, scale=1.0):
    with mx.autograd.record():
        loss = (block(mx.nd.ones((2, 3)) * scale) ** 2).sum()
    loss.backward()


def test_a_gradient_that_nothing_computed_reads_as_zeros():
    _, parameter = _block(Parameter)
    assert not parameter.grad().asnumpy().any()
    assert not parameter.list_grad()[0].asnumpy().any()


def test_a_computed_gradient_is_not_overwritten_by_the_first_look():
    (ours, parameter), (theirs, expected) = _block(Parameter), _block(mx.gluon.Parameter)
    for scale in (1.0, 2.0):
        _backward(ours, scale)
        _backward(theirs, scale)
        assert np.array_equal(parameter.grad().asnumpy(), expected.grad().asnumpy())
        assert parameter.grad().asnumpy().any()


def test_an_array_taken_before_recording_gets_its_gradient():
    _, parameter = _block(Parameter)
    array = parameter.data()
    with mx.autograd.record():
        loss = (array * array).sum()
    loss.backward()
    assert np.array_equal(parameter.grad().asnumpy(), 2 * W)


@pytest.mark.parametrize("request_", ["write", "add"])
def test_gluons_own_trainer_moves_the_parameter_as_it_does_its_own(request_):
    found = []
    for kind in (Parameter, mx.gluon.Parameter):
        block, parameter = _block(kind)
        parameter.grad_req = request_
        trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
        for scale in (1.0, 0.5):
            _backward(block, scale)
            trainer.step(2)
        parameter.zero_grad()
        assert not parameter.grad().asnumpy().any()
        found.append(parameter.data().asnumpy())
    assert np.array_equal(*found)


def _network(kind, cell, shape, *, hybrid):
    """Return a network of one layer and a dense one with parameters of a class, the same numbers for each class."""
    rng, out = np.random.default_rng(0), cell()
    out = mx.sym.FullyConnected(mx.sym.Activation(out, act_type="tanh"), num_hidden=3, name="fc")
    shapes, _, _ = out.infer_shape(x=shape)
    parameters = mx.gluon.ParameterDict()
    for name, each in zip(out.list_arguments(), shapes, strict=True):
        if name != "x":
            array = mx.nd.array(rng.normal(0, 0.3, each))
            parameters._params[name] = kind(name, shape=each)
            parameters._params[name].initialize(mx.init.Constant(array), ctx=mx.cpu())
    block = mx.gluon.SymbolBlock([out], [mx.sym.var("x")], params=parameters)
    if hybrid:
        block.hybridize(static_alloc=True, static_shape=True)
    return block, parameters._params


def _layer(op, **attributes):
    return lambda: getattr(mx.sym, op)(mx.sym.var("x"), name="layer", **attributes)


LAYERS = {
    "convolution": (_layer("Convolution", kernel=(3, 3), num_filter=8, pad=(1, 1)), (2, 4, 6, 6)),
    "grouped": (_layer("Convolution", kernel=(3, 3), num_filter=8, num_group=2), (2, 4, 6, 6)),
    "depthwise": (_layer("Convolution", kernel=(3, 3), num_filter=4, num_group=4), (2, 4, 6, 6)),
    "one_axis": (_layer("Convolution", kernel=(3,), num_filter=8, dilate=(2,)), (2, 4, 9)),
    "three_axes": (_layer("Convolution", kernel=(2, 3, 3), num_filter=8), (2, 4, 4, 5, 5)),
    "transposed": (_layer("Deconvolution", kernel=(3, 3), num_filter=8, stride=(2, 2)), (2, 4, 5, 5)),
    "transposed_wide": (_layer("Deconvolution", kernel=(2, 2), num_filter=16, stride=(2, 2)), (2, 32, 6, 6)),
    "transposed_biased": (_layer("Deconvolution", kernel=(4, 4), num_filter=8, no_bias=False), (2, 4, 5, 5)),
    "transposed_grouped": (_layer("Deconvolution", kernel=(3, 3), num_filter=8, num_group=2), (2, 4, 5, 5)),
    "transposed_one_axis": (_layer("Deconvolution", kernel=(3,), num_filter=8, stride=(2,)), (2, 4, 7)),
    "embedding": (_layer("Embedding", input_dim=6, output_dim=8), (2, 4)),
    "layer_norm": (_layer("LayerNorm"), (2, 5, 4)),
}


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_takes_the_steps_that_gluons_own_parameters_take(name, hybrid, tmp_path):
    layer, shape = LAYERS[name]
    found = []
    for kind in (Parameter, mx.gluon.Parameter):
        block, parameters = _network(kind, layer, shape, hybrid=hybrid)
        trainer = mx.gluon.Trainer(block.collect_params(), "adam", {"learning_rate": 0.01})
        x = mx.nd.array(np.random.default_rng(1).integers(0, 6, shape))
        seen = []
        for request in ("write", "write", "add", "add", "null", "write", "write"):
            for parameter in parameters.values():
                # the dense layer's own weights always train, so that something is left to compute
                parameter.grad_req = "write" if parameter.name.startswith("fc") else request
            with mx.autograd.record():
                loss = (block(x) ** 2).sum()
            loss.backward()
            trainer.step(2)
            seen += [p.grad().asnumpy() for p in parameters.values() if p.grad_req != "null"]
        block.save_parameters(str(tmp_path / kind.__module__))
        block.load_parameters(str(tmp_path / kind.__module__))
        found.append([*seen, *(p.data().asnumpy() for p in parameters.values())])
    for ours, theirs in zip(*found, strict=True):
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_cast_keeps_what_was_computed_and_zeros_elsewhere():
    block, parameter = _block(Parameter)
    _backward(block)
    expected = parameter._grad[0].asnumpy()
    parameter.cast("float64")
    assert parameter.grad().dtype == np.float64
    assert np.array_equal(parameter.grad().asnumpy(), expected)
    _, parameter = _block(Parameter)
    parameter.cast("float16")
    assert parameter.grad().dtype == np.float16
    assert not parameter.grad().asnumpy().any()


@pytest.mark.parametrize("between", ["add", "null"])
def test_a_change_of_request_forgets_the_gradient_computed_before(between):
    block, parameter = _block(Parameter)
    _backward(block)
    parameter.grad_req = between
    parameter.grad_req = "write"
    parameter._grad[0][:] = np.nan
    assert not parameter.grad().asnumpy().any()


def test_a_gradient_that_a_later_pass_does_not_reach_stays():
    """As Gluon has it: what no pass computes is neither zeroed nor lost."""
    found = []
    for kind in (Parameter, mx.gluon.Parameter):
        block, parameter = _block(kind)
        _, other = _block(kind)
        _backward(block)
        with mx.autograd.record():
            loss = (other.data() * 2).sum()
        loss.backward()
        found.append(parameter.grad().asnumpy())
    assert np.array_equal(*found)


def test_frozen_and_thawed():
    block, parameter = _block(Parameter)
    parameter.grad_req = "null"
    with pytest.raises(RuntimeError, match="grad_req='null'"):
        parameter.grad()
    parameter.grad_req = "write"
    _backward(block)
    assert parameter.grad().asnumpy().any()


# in a process of its own: in another's, MXNet hands out what an earlier test has given back
GROWING = """
import resource
from portnet_gluon.compat import mx
from portnet_gluon.parameter import Parameter

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

before = resident()
parameter = Parameter("w", shape=(64, 1 << 18))
parameter.initialize(mx.init.One(), ctx=mx.cpu())
parameter.data().wait_to_read()
grown = resident() - before
parameter.grad().wait_to_read()
print(grown, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_a_gradient_takes_no_memory_before_it_is_computed():
    done = subprocess.run([sys.executable, "-c", GROWING], capture_output=True, text=True, check=True)
    grown, after = map(int, done.stdout.split())
    assert grown < 1.5 * 4 * (64 << 18)
    assert after > grown + (64 << 18)
