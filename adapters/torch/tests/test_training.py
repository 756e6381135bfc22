"""Training by the core's definitions, step by step against numpy."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan

LRS = [0.1, 0.1, 0.02, 0.02, 0.05, 0.05]

SPECS = {
    "sgd": OptimizerSpec("sgd", lr=LRS[0], momentum=0.9, weight_decay=0.01),
    "plain": OptimizerSpec("sgd", lr=LRS[0], momentum=0.0),
    "nesterov": OptimizerSpec("sgd", lr=LRS[0], momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": OptimizerSpec("adam", lr=LRS[0], weight_decay=0.01),
    "adamw": OptimizerSpec("adamw", lr=LRS[0], weight_decay=0.1),
    "rmsprop": OptimizerSpec("rmsprop", lr=LRS[0], momentum=0.9, weight_decay=0.01),
    "rmsprop without momentum": OptimizerSpec("rmsprop", lr=LRS[0], momentum=0.0),
}


def plan_of(model, spec=SPECS["sgd"], **options) -> TrainPlan:
    """Return a plan that trains everything but what ``frozen`` names, with ``changes`` to single parameters."""
    frozen, changes = options.pop("frozen", ()), options.pop("changes", {})
    trainable = [name for name, role in model.roles.items() if role.trainable]
    parameters = {name: changes.get(name, ParameterPlan(trainable=name not in frozen)) for name in trainable}
    return TrainPlan(spec, parameters, **options)


def batches(count=6, size=7, seed=1):
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((size, 3, 8, 8)).astype(np.float32), rng.integers(0, 5, size).astype(np.int64))
        for _ in range(count)
    ]


class NumpyOptimizer:
    """The definitions at the top of `portnet.adapter`, in float64."""

    def __init__(self, spec: OptimizerSpec) -> None:
        self.spec, self.t, self.moments = spec, 0, {}

    def step(self, weights, gradients, lr, plans):
        self.t += 1
        return {n: self._update(n, weights[n].astype(np.float64), gradients[n], lr, plans[n]) for n in gradients}

    def _update(self, name, w, g, lr, plan):
        spec, rate = self.spec, lr * plan.lr_mult
        d = spec.weight_decay if plan.decay else 0.0
        m, s = self.moments.get(name, (np.zeros_like(w), np.zeros_like(w)))
        if spec.name == "adamw":
            w, d = w * (1 - rate * d), 0.0
        g = g + d * w
        if spec.name == "sgd":
            m = spec.momentum * m + g
            w = w - rate * ((g + spec.momentum * m) if spec.nesterov else m)
        elif spec.name == "rmsprop":
            s = spec.rho * s + (1 - spec.rho) * g**2
            m = spec.momentum * m + g / (np.sqrt(s) + spec.eps)
            w = w - rate * m
        else:
            first, second = spec.betas
            m, s = first * m + (1 - first) * g, second * s + (1 - second) * g**2
            w = w - rate * (m / (1 - first**self.t)) / (np.sqrt(s / (1 - second**self.t)) + spec.eps)
        self.moments[name] = m, s
        return w


@pytest.mark.parametrize("name", SPECS)
def test_every_optimizer_follows_its_definition_over_a_changing_rate(engine, cnn, name):
    changes = {"fc.weight": ParameterPlan(lr_mult=10.0), "body.bias": ParameterPlan(decay=False)}
    plan = plan_of(cnn, SPECS[name], changes=changes)
    lowered = engine.lower(cnn)
    trainer, reference = lowered.trainer(plan), NumpyOptimizer(SPECS[name])
    for (x, y), lr in zip(batches(), LRS, strict=True):
        seen_before = lowered.weights()
        gradients = trainer.gradients(x, y)
        expected = reference.step(seen_before, gradients, lr, plan.parameters)
        trainer.set_lr(lr)
        trainer.step(x, y)
        for parameter, value in expected.items():
            np.testing.assert_allclose(lowered.weights()[parameter], value, rtol=1e-5, atol=1e-5, err_msg=parameter)


def test_numpy_definition_disagrees_when_the_rule_is_another(engine, cnn):
    lowered = engine.lower(cnn)
    plan = plan_of(cnn, SPECS["nesterov"])
    trainer, wrong = lowered.trainer(plan), NumpyOptimizer(SPECS["sgd"])
    [(x, y)] = batches(1)
    expected = wrong.step(lowered.weights(), trainer.gradients(x, y), LRS[0], plan.parameters)
    trainer.step(x, y)
    assert np.abs(lowered.weights()["fc.weight"] - expected["fc.weight"]).max() > 1e-3


def test_running_statistics_are_biased(engine, cnn):
    lowered = engine.lower(cnn)
    trainer = lowered.trainer(plan_of(cnn))
    before = lowered.weights()
    [(x, y)] = batches(1, size=2)
    trainer.step(x, y)
    a = F.conv2d(torch.from_numpy(x), torch.from_numpy(before["stem.conv.weight"]), padding=1).numpy()
    after, axes = lowered.weights(), (0, 2, 3)
    mean = 0.9 * before["stem.bn.running_mean"] + 0.1 * a.mean(axes)
    variance = 0.9 * before["stem.bn.running_var"] + 0.1 * a.var(axes)
    np.testing.assert_allclose(after["stem.bn.running_mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after["stem.bn.running_var"], variance, rtol=1e-6)
    unbiased = 0.9 * before["stem.bn.running_var"] + 0.1 * a.var(axes, ddof=1)
    assert np.abs(after["stem.bn.running_var"] - unbiased).max() > 1e-4


def digest(lowered, names) -> str:
    weights = lowered.weights()
    return hashlib.sha256(b"".join(weights[name].tobytes() for name in names)).hexdigest()


def test_frozen_means_bit_identical(engine, cnn):
    frozen = [name for name in cnn.weights() if name.startswith("stem")]
    statistics = frozenset({"stem.bn.running_mean", "stem.bn.running_var"})
    lowered = engine.lower(cnn)
    trainer = lowered.trainer(plan_of(cnn, frozen=frozen, frozen_statistics=statistics))
    before, moving = digest(lowered, frozen), digest(lowered, ["fc.weight", "bn2.running_var"])
    for x, y in batches(3):
        trainer.step(x, y)
    assert digest(lowered, frozen) == before
    assert digest(lowered, ["fc.weight", "bn2.running_var"]) != moving
    assert lowered.native.stem.bn.num_batches_tracked == 0


def test_frozen_prefix_builds_no_backward_graph(engine, cnn):
    frozen = [name for name in cnn.weights() if name.startswith("stem")]
    lowered = engine.lower(cnn)
    lowered.trainer(plan_of(cnn, frozen=frozen, frozen_statistics=frozenset(["stem.bn.running_mean"])))
    seen = []
    lowered.native.stem.bn.register_forward_hook(lambda m, i, o: seen.append(o.requires_grad))
    lowered.native(torch.zeros(2, 3, 8, 8))
    assert seen == [False]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_resume_is_bit_identical(engine, cnn, name):
    data = batches(6)
    whole = engine.lower(cnn)
    trainer = whole.trainer(plan_of(cnn, SPECS[name], seed=3))
    for x, y in data[:3]:
        trainer.step(x, y)
    weights, state = whole.weights(), {key: array.copy() for key, array in trainer.state().items()}
    for x, y in data[3:]:
        trainer.step(x, y)
    resumed = engine.lower(cnn)
    resumed.set_weights(weights)
    again = resumed.trainer(plan_of(cnn, SPECS[name], seed=99))
    again.load_state(state)
    for x, y in data[3:]:
        again.step(x, y)
    for parameter, value in whole.weights().items():
        np.testing.assert_array_equal(resumed.weights()[parameter], value, err_msg=parameter)


def test_gradients_change_nothing(engine, cnn):
    lowered = engine.lower(cnn)
    trainer = lowered.trainer(plan_of(cnn, SPECS["adam"]))
    [(x, y)] = batches(1)
    before = {name: tensor.clone() for name, tensor in lowered.native.state_dict().items()}
    state = trainer.state()
    first, second = trainer.gradients(x, y), trainer.gradients(x, y)
    for name, tensor in lowered.native.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(np.array_equal(array, state[key]) for key, array in trainer.state().items())
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_dropout_leaves_the_users_random_state_alone(engine, cnn):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer = engine.lower(cnn).trainer(plan_of(cnn))
    trainer.step(*batches(1)[0])
    assert torch.equal(torch.rand(3), expected)


def test_dropout_depends_on_the_seed(engine, cnn):
    x, y = batches(1)[0]
    losses = {engine.lower(cnn).trainer(plan_of(cnn, seed=seed)).step(x, y).loss for seed in (0, 0, 1)}
    assert len(losses) == 2


def test_loss_smooths_weighs_and_counts(engine, cnn):
    weights = (1.0, 2.0, 3.0, 0.5, 1.0)
    x, y = batches(1)[0]
    lowered = engine.lower(cnn)
    lowered.native.dropout.p = 0.0
    trainer = lowered.trainer(plan_of(cnn, label_smoothing=0.1, class_weights=weights))
    lowered.native.train()
    with torch.no_grad():
        logits = lowered.native(torch.from_numpy(x)).double().numpy()
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = 0.9 * np.eye(5)[y] + 0.1 / 5
    w = np.array(weights)[y]
    result = trainer.step(x, y)
    assert result.loss == pytest.approx(float((-(target * logp).sum(1) * w).sum() / w.sum()), rel=1e-5)
    assert result.correct == int((logits.argmax(1) == y).sum())


def test_clip_norm_bounds_the_step(engine, cnn):
    lowered = engine.lower(cnn)
    trainer = lowered.trainer(plan_of(cnn, OptimizerSpec("sgd", lr=1.0, momentum=0.0), clip_norm=0.01))
    before = lowered.weights()
    trainer.step(*batches(1)[0])
    names = [name for name, role in cnn.roles.items() if role.trainable]
    moved = np.sqrt(sum(((lowered.weights()[name] - before[name]).astype(np.float64) ** 2).sum() for name in names))
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_names_stay_onnx_names(engine, cnn):
    trainer = engine.lower(cnn).trainer(plan_of(cnn))
    trainable = {name for name, role in cnn.roles.items() if role.trainable}
    assert set(trainer.gradients(*batches(1)[0])) == trainable
    assert {key for key in trainer.state() if "/" in key} == {f"momentum/{name}" for name in trainable}


def test_gradients_have_onnx_layout(engine, cnn):
    gradients = engine.lower(cnn).trainer(plan_of(cnn)).gradients(*batches(1)[0])
    weights = cnn.weights()
    assert all(gradient.shape == weights[name].shape for name, gradient in gradients.items())


def test_a_batch_of_one_value_per_channel_follows_the_definition(engine, build):
    """torch's own batch norm refuses it; by ONNX's definition the value is its own mean, and the bias comes out."""
    arrays = {"s": np.ones(2), "b": np.array([0.0, 1.0]), "m": np.zeros(2), "v": np.ones(2)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = build([helper.make_node("BatchNormalization", ["x", *arrays], ["logits"], "bn")], {"x": ["N", 2]}, arrays)
    lowered = engine.lower(model)
    result = lowered.trainer(plan_of(model)).step(np.array([[3.0, -4.0]], np.float32), np.array([1]))
    assert result.loss == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-4)
    assert result.correct == 1
    weights = lowered.weights()
    np.testing.assert_allclose(weights["m"], [0.3, -0.4], rtol=1e-5)
    np.testing.assert_allclose(weights["v"], [0.9, 0.9], rtol=1e-5)


def test_fp16_resumes_after_steps_that_overflowed(engine):
    """Adam does not count a step that the scaler left out."""
    from portnet.testing.conformance.base import batch, plan_for
    from portnet.testing.networks import mlp

    model = mlp()
    plan = plan_for(model, OptimizerSpec("adam", lr=1e-2), precision="fp16")
    lowered = engine.lower(model)
    trainer = lowered.trainer(plan)
    x, y = batch(model, 8, 0)
    for factor in (300.0, 1.0, 1.0):
        trainer.step(factor * x, y)
    scale = trainer.state()["scale"]
    assert scale[0] < 65536
    assert scale[2] < 3
    weights, state = lowered.weights(), {name: array.copy() for name, array in trainer.state().items()}
    again = engine.lower(model)
    again.set_weights(weights)
    resumed = again.trainer(plan)
    resumed.load_state(state)
    for seed in range(1, 4):
        assert resumed.step(*batch(model, 8, seed)).loss == trainer.step(*batch(model, 8, seed)).loss
    expected = lowered.weights()
    assert all(np.array_equal(array, expected[name]) for name, array in again.weights().items())
