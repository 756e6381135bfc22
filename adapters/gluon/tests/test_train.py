"""The trainer against small numpy implementations of the definitions in `portnet.adapter`."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.errors import InputError, WeightsError

SPECS = [
    OptimizerSpec("sgd", lr=0.1, momentum=0.0),
    OptimizerSpec("sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
    OptimizerSpec("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    OptimizerSpec("adam", lr=0.01, weight_decay=0.01),
    OptimizerSpec("adam", lr=0.01, betas=(0.8, 0.95), eps=1e-3),
    OptimizerSpec("adamw", lr=0.01, weight_decay=0.1),
    OptimizerSpec("rmsprop", lr=0.01, momentum=0.0, weight_decay=0.01),
    OptimizerSpec("rmsprop", lr=0.01, momentum=0.9, rho=0.9, eps=1e-4),
]

# a schedule that warms up from zero, jumps and falls
SCHEDULE = [0.0, 0.5, 1.0, 1.0, 3.0, 0.1, 0.1, 1.0]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def dense_gradients(w, b, x, y):
    d = softmax(x @ w.T + b)
    d[np.arange(len(y)), y] -= 1
    d /= len(y)
    return d.T @ x, d.sum(0)


def rule(spec, state, w, g, r, d, t):
    """One step of the definition, in float64."""
    if spec.name == "adamw":
        w, d = w * (1 - r * d), 0.0
    g = g + d * w
    zero = np.zeros_like(w)
    if spec.name == "sgd":
        v = state["v"] = spec.momentum * state.get("v", zero) + g
        return w - r * (g + spec.momentum * v if spec.nesterov else v)
    if spec.name == "rmsprop":
        s = state["s"] = spec.rho * state.get("s", zero) + (1 - spec.rho) * g * g
        v = state["v"] = spec.momentum * state.get("v", zero) + g / (np.sqrt(s) + spec.eps)
        return w - r * v
    b1, b2 = spec.betas
    m = state["m"] = b1 * state.get("m", zero) + (1 - b1) * g
    s = state["s"] = b2 * state.get("s", zero) + (1 - b2) * g * g
    return w - r * (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + spec.eps)


@pytest.mark.parametrize("large", [1, 1 << 15], ids=["by array", "together"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_optimizer_follows_its_definition_step_by_step(engine, build, spec, large, monkeypatch):
    """Whether large arrays are updated one by one, or all together."""
    monkeypatch.setattr("portnet_gluon.rules._LARGE", large)
    model = build.dense()
    plan = TrainPlan(spec, {"w": ParameterPlan(lr_mult=2.0), "b": ParameterPlan(decay=False)})
    lowered = engine.lower(model)
    trainer = lowered.trainer(plan)
    w, b = (model.weights()[name].astype(np.float64) for name in ("w", "b"))
    states = {}, {}
    for t, factor in enumerate(SCHEDULE, start=1):
        x, y = build.batch(model, seed=t, classes=3)
        gw, gb = dense_gradients(w, b, x.astype(np.float64), y)
        w = rule(spec, states[0], w, gw, 2 * spec.lr * factor, spec.weight_decay, t)
        b = rule(spec, states[1], b, gb, spec.lr * factor, 0.0, t)
        trainer.set_lr(spec.lr * factor)
        trainer.step(x, y)
        now = lowered.weights()
        np.testing.assert_allclose(now["w"], w, atol=1e-5, rtol=1e-5, err_msg=f"step {t}")
        np.testing.assert_allclose(now["b"], b, atol=1e-5, rtol=1e-5, err_msg=f"step {t}")


def test_loss_hits_and_gradients_equal_numpy(engine, build):
    model = build.dense()
    x, y = build.batch(model, classes=3)
    w, b = (model.weights()[name].astype(np.float64) for name in ("w", "b"))
    trainer = engine.lower(model).trainer(build.plan(model))
    gradients = trainer.gradients(x, y)
    for name, expected in zip(("w", "b"), dense_gradients(w, b, x, y), strict=True):
        np.testing.assert_allclose(gradients[name], expected, atol=1e-5)
    result = trainer.step(x, y)
    logits = x @ w.T + b
    assert result.loss == pytest.approx(-np.log(softmax(logits)[np.arange(len(y)), y]).mean(), abs=1e-6)
    assert result.correct == int((logits.argmax(1) == y).sum())


def test_label_smoothing_and_class_weights_equal_the_definition(engine, build):
    model = build.dense()
    x, y = build.batch(model, classes=3, size=9)
    weights = (0.5, 1.0, 4.0)
    logs = np.log(softmax(engine.lower(model).predict(x).astype(np.float64)))
    target = 0.9 * np.eye(3)[y] + 0.1 / 3
    per_row, per_class = -(target * logs).sum(1), np.array(weights)[y]
    smooth = engine.lower(model).trainer(build.plan(model, label_smoothing=0.1)).step(x, y)
    assert smooth.loss == pytest.approx(per_row.mean(), abs=1e-6)
    both = engine.lower(model).trainer(build.plan(model, label_smoothing=0.1, class_weights=weights)).step(x, y)
    assert both.loss == pytest.approx((per_row * per_class).sum() / per_class.sum(), abs=1e-6)


def test_clip_norm_bounds_the_update(engine, build):
    model = build.dense()
    x, y = build.batch(model, classes=3)
    plan = build.plan(model, optimizer=OptimizerSpec("sgd", lr=1.0, momentum=0.0), clip_norm=0.01)
    lowered = engine.lower(model)
    lowered.trainer(plan).step(x, y)
    moved = [lowered.weights()[name] - array for name, array in model.weights().items()]
    assert np.sqrt(sum((d.astype(np.float64) ** 2).sum() for d in moved)) == pytest.approx(0.01, rel=1e-4)


def statistics(weights):
    return {name: array for name, array in weights.items() if "running" in name}


def expected_statistics(array, running_mean, running_var, momentum=0.8):
    mean, variance = array.mean((0, 2, 3)), array.var((0, 2, 3))
    return momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * variance


# when conv1 and bn1 are frozen no gradient reaches bn1, whose statistics must move all the same
@pytest.mark.parametrize("frozen", [(), ("conv1.weight", "bn1.weight", "bn1.bias")], ids=["all", "head"])
def test_batch_norm_keeps_biased_running_statistics(engine, build, frozen):
    model = build.convnet()
    before = model.weights()
    x, y = build.batch(model)
    first = build.reference(_until(model, "c1"), {"x": x})[0]
    lowered = engine.lower(model)
    lowered.trainer(build.plan(model, frozen=frozen)).step(x, y)
    mean, variance = expected_statistics(first, before["bn1.running_mean"], before["bn1.running_var"])
    np.testing.assert_allclose(lowered.weights()["bn1.running_mean"], mean, atol=1e-5)
    np.testing.assert_allclose(lowered.weights()["bn1.running_var"], variance, atol=1e-5)


def _until(model, tensor):
    """The network up to a tensor."""
    import onnx

    from portnet.graph.model import Model

    proto = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(model.to_bytes()))
    return Model.from_bytes(onnx.utils.Extractor(proto).extract_model(["x"], [tensor]).SerializeToString())


def digest(arrays):
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


def test_frozen_is_bit_identical(engine, build):
    model = build.convnet()
    names = set(model.weights())
    frozen = {"conv1.weight", "bn1.weight", "bn1.bias", "conv2.bias"}
    held = {"bn1.running_mean", "bn1.running_var"}
    lowered = engine.lower(model)
    before = digest(lowered.weights())
    trainer = lowered.trainer(build.plan(model, frozen=frozen, statistics=held))
    for seed in range(3):
        trainer.step(*build.batch(model, seed))
    after = digest(lowered.weights())
    assert {name for name in names if before[name] == after[name]} == frozen | held


def test_frozen_parameters_get_no_gradient(engine, build):
    model = build.convnet()
    frozen = {name for name in model.weights() if not name.startswith("fc")}
    lowered = engine.lower(model)
    trainer = lowered.trainer(build.plan(model, frozen=frozen))
    assert set(trainer.gradients(*build.batch(model))) == {"fc.weight", "fc.bias"}
    assert {name for name, p in lowered.parameters.items() if p.grad_req != "null"} == {"fc.weight", "fc.bias"}
    assert lowered.trainable_count == 28


def test_gradients_change_nothing(engine, build):
    model = build.convnet(dropout=0.5)
    x, y = build.batch(model)
    lowered = engine.lower(model)
    trainer = lowered.trainer(build.plan(model))
    trainer.step(x, y)
    before, state = digest(lowered.weights()), digest(trainer.state())
    first, second = trainer.gradients(x, y), trainer.gradients(x, y)
    assert digest(first) == digest(second)
    assert digest(lowered.weights()) == before
    assert digest(trainer.state()) == state


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_resumed_run_is_bit_identical(engine, build, name):
    model = build.convnet(dropout=0.5)
    plan = build.plan(model, optimizer=OptimizerSpec(name, lr=0.01), seed=5)
    batches = [build.batch(model, seed) for seed in range(6)]
    whole = engine.lower(model)
    trainer = whole.trainer(plan)
    for x, y in batches:
        trainer.step(x, y)
    first = engine.lower(model)
    trainer = first.trainer(plan)
    for x, y in batches[:3]:
        trainer.step(x, y)
    state, weights = trainer.state(), first.weights()
    second = engine.lower(model)
    second.set_weights(weights)
    trainer = second.trainer(plan)
    trainer.load_state(state)
    for x, y in batches[3:]:
        trainer.step(x, y)
    assert digest(second.weights()) == digest(whole.weights())


def test_dropout_is_live_in_training_and_depends_on_the_seed(engine, build):
    model = build.convnet(dropout=0.5)
    x, y = build.batch(model)
    losses = {seed: engine.lower(model).trainer(build.plan(model, seed=seed)).step(x, y).loss for seed in (1, 1, 2)}
    assert losses[1] != losses[2]
    lowered = engine.lower(model)
    np.testing.assert_array_equal(lowered.predict(x), lowered.predict(x))
    np.testing.assert_allclose(lowered.predict(x), build.reference(model, {"x": x})[0], atol=1e-5)


def test_prediction_follows_training_and_batch_sizes_stay_free(engine, build):
    model = build.convnet()
    lowered = engine.lower(model)
    trainer = lowered.trainer(build.plan(model))
    for size in (6, 3, 1 + 6):
        trainer.step(*build.batch(model, size=size))
    x, _ = build.batch(model, size=2)
    expected = build.reference(model.with_weights(lowered.weights()), {"x": x})[0]
    np.testing.assert_allclose(lowered.predict(x), expected, atol=1e-5)


def test_a_foreign_plan_or_state_is_refused(engine, build):
    model = build.dense()
    lowered = engine.lower(model)
    plan = build.plan(model)
    with pytest.raises(InputError, match="no trainable initializer named 'other'"):
        lowered.trainer(replace(plan, parameters={**plan.parameters, "other": ParameterPlan()}))
    with pytest.raises(WeightsError, match="velocity/w"):
        lowered.trainer(plan).load_state({"step": np.array(1), "lr": np.array(0.1)})
