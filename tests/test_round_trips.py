"""A network that goes from framework to framework, captured and lowered again, ends where it began, trainable still."""

import numpy as np
import pytest

import portnet
from portnet.engines import engine, installed
from portnet.graph.model import Model

SIZE = 64
# torch → ONNX → Keras → ONNX → Gluon → ONNX → torch
ROUTE = ("torch", "keras", "gluon", "torch")
# its first norm has a scale of 1 and a shift of 0 that are part of the architecture; torch and Keras keep them as
# parameters that do not train
FIXED = {"resnet18_v2": 2 * 3}

pytestmark = pytest.mark.skipif(not set(ROUTE) <= set(installed()), reason="the route needs all three engines")


def network(name: str) -> Model:
    """Return a zoo network, its running statistics moved away from where they start."""
    model = portnet.zoo.load(name, weights=None, size=SIZE)
    rng = np.random.default_rng(1)
    moved = {
        key: (array * (1 + 0.2 * rng.random(array.shape))).astype(np.float32)
        for key, array in model.weights().items()
        if key.endswith(("running_var", "bias"))
    }
    return model.with_weights(moved)


@pytest.mark.parametrize("name", portnet.zoo.names())
def test_a_round_trip_ends_where_it_began(name):
    model = network(name)
    x = np.random.default_rng(2).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    count = model.parameter_count
    lowered = engine(ROUTE[0]).lower(model)
    first = lowered.predict(x)
    for stop in ROUTE[1:]:
        # what is captured is compared with the native network that it came from
        model = portnet.capture(lowered.native, x)
        assert model.parameter_count - count in (0, FIXED.get(name, 0))
        lowered = engine(stop).lower(model)
    assert lowered.trainable_count - count in (0, FIXED.get(name, 0))
    np.testing.assert_allclose(lowered.predict(x), first, atol=1e-4 * max(1.0, float(np.abs(first).max())))
