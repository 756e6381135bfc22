"""One network, one batch, one run: every engine gives the same numbers, and onnxruntime gives them too.

The networks are those of the zoo with random weights on small images, Dropout's ratio set to 0 where training is
compared (each engine draws its own masks).
"""

import numpy as np
import pytest

from portnet import engines, zoo
from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan

NETWORKS = sorted(zoo.names())
ENGINES = engines.installed()
SIZE, CLASSES, STEPS = 64, 10, 20
RULES = {
    "sgd": OptimizerSpec("sgd", lr=0.01, momentum=0.9, weight_decay=1e-4),
    "adam": OptimizerSpec("adam", lr=1e-4),
}


def network(name, size=SIZE):
    model = zoo.load(name, weights=None, num_classes=CLASSES, size=size)
    ratios = [node.inputs[1].name for node in model.ir.graph if node.op_type == "Dropout"]
    return model.with_weights({ratio: np.zeros((), np.float32) for ratio in ratios})


def batch(size, seed=0, pixels=SIZE):
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (size, 3, pixels, pixels)).astype(np.float32)
    return x, generator.integers(0, CLASSES, size)


def plan(model, optimizer):
    parameters = {name: ParameterPlan(decay=role.decays) for name, role in model.roles.items() if role.trainable}
    return TrainPlan(optimizer, parameters)


def runtime(model, x):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.inputs[0].name: x})[0]


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
        assert np.abs(got - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_one_batch_agree(name):
    model = network(name)
    x, y = batch(4)
    found = {
        engine: engines.engine(engine).lower(model).trainer(plan(model, RULES["sgd"])).gradients(x, y)
        for engine in two_engines()
    }
    first, *others = found.values()
    scale = max(np.abs(array).max() for array in first.values())
    for other in others:
        assert set(other) == set(first)
        for parameter, array in first.items():
            error = np.abs(other[parameter] - array).max()
            assert error <= 2e-3 * np.abs(array).max() + 1e-5 * scale, parameter


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_losses_of_one_run_agree_step_by_step(name, rule):
    model = network(name)
    losses = {engine: run(engine, model, RULES[rule]) for engine in two_engines()}
    first, *others = losses.values()
    assert np.isfinite(first).all()
    assert len(set(first)) > 1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-3)


def run(engine, model, optimizer):
    trainer = engines.engine(engine).lower(model).trainer(plan(model, optimizer))
    return np.array([trainer.step(*batch(4, seed)).loss for seed in range(STEPS)])


def two_engines():
    if len(ENGINES) < 2:
        pytest.skip("needs two engines to compare")
    return ENGINES
