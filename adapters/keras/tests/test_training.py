"""What is Keras's own about training; the rules themselves are proved by the conformance suite."""

import keras
import numpy as np

from portnet import zoo
from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.testing.networks import convnet


def plan_for(model, trainable=lambda name: True, **keywords):
    parameters = {name: ParameterPlan(trainable(name)) for name, role in model.roles.items() if role.trainable}
    statistics = frozenset(name for name in model.roles if "running" in name or ".mean" in name or ".var" in name)
    return TrainPlan(OptimizerSpec("sgd", 0.1), parameters, statistics, **keywords)


def kernels_of_backward(trainer):
    graph = trainer._step(1).graph
    return [made.name for made in graph.get_operations() if made.type == "Conv2DBackpropFilter"]


def test_no_gradient_is_computed_before_the_first_trainable_layer(engine):
    model = zoo.load("squeezenet1_1", weights=None)
    lowered = engine.lower(model)
    head = [name for name in model.roles if name.startswith("classifier")]
    whole, cut = lowered.trainer(plan_for(model)), lowered.trainer(plan_for(model, head.__contains__))
    assert len(kernels_of_backward(whole)) == 26
    assert len(kernels_of_backward(cut)) == 1


def test_flags_of_the_network_are_as_before_after_a_step_with_frozen_statistics(engine):
    model = convnet()
    lowered = engine.lower(model)
    before = [(v.path, v.trainable) for v in lowered.native.variables], lowered.trainable_count
    statistics = frozenset(name for name, role in model.roles.items() if role.value == "statistic")
    parameters = {name: ParameterPlan() for name, role in model.roles.items() if role.trainable}
    trainer = lowered.trainer(TrainPlan(OptimizerSpec(), parameters, statistics))
    trainer.step(np.ones((4, 3, 12, 12), np.float32), np.zeros(4, np.int64))
    assert ([(v.path, v.trainable) for v in lowered.native.variables], lowered.trainable_count) == before


def test_a_new_rate_compiles_nothing(engine, monkeypatch):
    model = convnet()
    lowered = engine.lower(model)
    trainer = lowered.trainer(plan_for(model))
    x, y = np.ones((2, 3, 12, 12), np.float32), np.zeros(2, np.int64)
    trainer.step(x, y)
    monkeypatch.setattr(keras.Model, "__call__", lambda *_, **__: 1 / 0)
    trainer.set_lr(0.01)
    trainer.step(x, y)
    trainer.step(x[:1], y[:1])
