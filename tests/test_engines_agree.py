"""One network, one batch, one run: every engine gives the same numbers, and onnxruntime gives them too.

The networks are those of the zoo with random weights on small images, Dropout's ratio set to 0 where training is
compared (each engine draws its own masks).

A rectifier has a kink: where a value lies within rounding of zero, two correct engines differ in whether its
gradient passes, and batch norm on a small batch makes much of one flipped value. So training is compared on the
same networks with Elu in place of Relu, Clip and LeakyRelu, and means in place of maxima, in which two values within
rounding of each other are a kink too: tightly; and on the networks as they are by direction.
"""

import numpy as np
import pytest

from portnet import engines, zoo
from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan

NETWORKS = sorted(zoo.names())
ENGINES = engines.installed()
SIZE, CLASSES, BATCH, STEPS = 64, 10, 4, 10
RULES = [
    OptimizerSpec("sgd", lr=3e-3, momentum=0.9, weight_decay=1e-4),
    OptimizerSpec("adam", lr=1e-4),
]
# squeezenet1_0 and resnet50 are made of the same layers
TRAINED = ["mobilenet_v2", "resnet18", "resnet18_v2", "squeezenet1_1"]


def network(name, *, smooth=False):
    model = zoo.load(name, weights=None, num_classes=CLASSES, size=SIZE)
    ratios = [node.inputs[1].name for node in model.ir.graph if node.op_type == "Dropout"]
    model = model.with_weights({ratio: np.zeros((), np.float32) for ratio in ratios})
    for node in model.ir.graph if smooth else ():
        if node.op_type in ("Relu", "Clip", "LeakyRelu"):
            node.op_type = "Elu"
            node.attributes.clear()
            node.resize_inputs(1)
        elif node.op_type == "MaxPool":
            node.op_type = "AveragePool"
    return model


def batch(size, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (size, 3, SIZE, SIZE)).astype(np.float32)
    return x, generator.integers(0, CLASSES, size)


def plan(model, optimizer):
    parameters = {name: ParameterPlan(decay=role.decays) for name, role in model.roles.items() if role.trainable}
    return TrainPlan(optimizer, parameters)


def runtime(model, x):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.inputs[0].name: x})[0]


def two_engines():
    if len(ENGINES) < 2:
        pytest.skip("needs two engines to compare")
    return ENGINES


def gradients(model):
    x, y = batch(BATCH)
    lowered = (engines.engine(name).lower(model) for name in two_engines())
    first, *others = (network.trainer(plan(model, RULES[0])).gradients(x, y) for network in lowered)
    assert all(set(other) == set(first) for other in others)
    return first, others


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_equal_onnxruntimes_at_several_batch_sizes(engine, name):
    model = network(name)
    lowered = engines.engine(engine).lower(model)
    for size in (1, 3):
        x, _ = batch(size)
        expected = runtime(model, x)
        got = lowered.predict(x)
        assert got.shape == expected.shape == (size, CLASSES)
        assert np.abs(got - expected).max() <= 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_one_batch_agree(name):
    first, others = gradients(network(name, smooth=True))
    # where the true gradient is zero (a bias that batch norm takes away again) there is rounding alone
    floor = 1e-5 * max(np.abs(array).max() for array in first.values())
    for other in others:
        for parameter, array in first.items():
            assert np.abs(other[parameter] - array).max() <= 1e-3 * np.abs(array).max() + floor, parameter


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_with_rectifiers_point_the_same_way(name):
    first, others = gradients(network(name))
    for other in others:
        assert cosine(other, first) > 0.999


def cosine(a, b):
    a, b = (np.concatenate([found[name].reshape(-1) for name in b]) for found in (a, b))
    return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("name", TRAINED)
def test_losses_of_one_run_agree_step_by_step(name):
    """Ten steps of sgd with momentum, then ten of adam."""
    model = network(name, smooth=True)
    first, *others = [run(engine, model) for engine in two_engines()]
    assert np.isfinite(first).all()
    assert np.ptp(first) > 0.1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-3)


def run(engine, model):
    lowered = engines.engine(engine).lower(model)
    losses = []
    for rule in RULES:
        trainer = lowered.trainer(plan(model, rule))
        losses += [trainer.step(*batch(BATCH, seed)).loss for seed in range(STEPS)]
    return np.array(losses)
