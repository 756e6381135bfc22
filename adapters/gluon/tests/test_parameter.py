"""Gradients that are allocated late behave as Gluon's own."""

import resource
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


def test_frozen_and_thawed():
    block, parameter = _block(Parameter)
    parameter.grad_req = "null"
    with pytest.raises(RuntimeError, match="grad_req='null'"):
        parameter.grad()
    parameter.grad_req = "write"
    _backward(block)
    assert parameter.grad().asnumpy().any()


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_a_gradient_takes_no_memory_before_it_is_computed():
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1])
    parameter = Parameter("w", shape=(64, 1 << 18))
    parameter.initialize(mx.init.One(), ctx=mx.cpu())
    parameter.data().wait_to_read()
    with open("/proc/self/statm") as file:
        grown = (int(file.read().split()[1]) - before) * resource.getpagesize()
    assert grown < 1.5 * 4 * (64 << 18)
    parameter.grad().wait_to_read()
    with open("/proc/self/statm") as file:
        assert (int(file.read().split()[1]) - before) * resource.getpagesize() > grown + (64 << 18)
