"""The conformance suite's own tests: an engine that breaks a promise is caught by the test of that promise."""

import numpy as np
import pytest

from portnet.adapter import Adapter, Lowered, StepResult, Trainer
from portnet.errors import ModelError, UnsupportedError, WeightsError
from portnet.testing.conformance import Conformance
from portnet.testing.conformance import base as conformance_base
from portnet.testing.conformance.base import batch, plan_for
from portnet.testing.networks import batch_norm_network, convnet, mlp
from portnet.testing.oracle import Optimizer, batch_norm, clipped, finite_differences, mlp_forward, mlp_gradients


class NumpyTrainer(Trainer):
    """Trains the MLP by the oracle's own definitions."""

    def __init__(self, lowered, plan):
        self.lowered, self.plan = lowered, plan
        self.optimizer = Optimizer(plan.optimizer, plan.parameters)

    def step(self, x, y):
        loss, gradients = mlp_gradients(self.lowered.arrays, x, y, self.plan)
        correct = int((mlp_forward(self.lowered.arrays, x).argmax(axis=1) == y).sum())
        self.lowered.arrays = self.update(self.lowered.arrays, clipped(gradients, self.plan.clip_norm))
        return StepResult(loss, correct)

    def update(self, weights, gradients):
        return self.optimizer.step(weights, gradients)

    def gradients(self, x, y):
        _, gradients = mlp_gradients(self.lowered.arrays, x, y, self.plan)
        return {name: g.astype(np.float32) for name, g in gradients.items() if self.plan.parameters[name].trainable}

    def set_lr(self, lr):
        self.optimizer.lr = lr

    def state(self):
        raise NotImplementedError

    def load_state(self, state):
        raise NotImplementedError


class NumpyLowered(Lowered):
    """The MLP, in float64."""

    trainer_class = NumpyTrainer

    def __init__(self, model):
        self.model, self.engine, self.native = model, "numpy", self
        self.arrays = {name: array.astype(np.float64) for name, array in model.weights().items()}

    def run(self, inputs):
        return {"logits": mlp_forward(self.arrays, inputs["x"]).astype(np.float32)}

    def weights(self):
        return {name: array.astype(np.float32) for name, array in self.arrays.items()}

    def set_weights(self, arrays):
        for name, array in arrays.items():
            if name not in self.arrays or array.shape != self.arrays[name].shape:
                raise WeightsError(f"weights: {name!r} does not fit")
        self.arrays.update({name: array.astype(np.float64) for name, array in arrays.items()})

    @property
    def trainable_count(self):
        return sum(array.size for array in self.arrays.values())

    def trainer(self, plan):
        return self.trainer_class(self, plan)


class NumpyEngine(Adapter):
    """An engine of one network."""

    name = framework = "numpy"
    ops = frozenset({"Gemm", "Relu"})
    lowered_class = NumpyLowered

    def version(self):
        return np.__version__

    def devices(self):
        return ["cpu"]

    def lower_canonical(self, model, device):
        if not {node.op_type for node in model.ir.graph} <= self.ops:
            raise UnsupportedError("numpy: Frobnicate node 'strange': no lowering")
        return self.lowered_class(model)


def mutant(lowered=(), trainer=()):
    """The engine with methods of its network or its trainer replaced."""
    trainer_class = type("MutantTrainer", (NumpyTrainer,), dict(trainer))
    lowered_class = type("MutantLowered", (NumpyLowered,), {"trainer_class": trainer_class, **dict(lowered)})
    return type("Mutant", (NumpyEngine,), {"lowered_class": lowered_class})()


@pytest.fixture
def suite(monkeypatch):
    def with_engine(adapter):
        monkeypatch.setattr(conformance_base, "engine", lambda name: adapter)
        tests = Conformance()
        type(tests).engine_name = "numpy"
        return tests

    return with_engine


def steps(tests, rule="sgd with momentum"):
    tests.test_steps_follow_the_definition_while_the_rate_changes(rule)


CHECKS = {
    "outputs": lambda t: t.test_outputs_equal_the_standards_at_every_batch_size(mlp),
    "names": lambda t: t.test_weights_come_back_bit_identical_under_their_names(mlp),
    "round trip": lambda t: t.test_weights_round_trip_in_onnx_layout(mlp),
    "copies": lambda t: t.test_weights_are_copies(mlp),
    "some": lambda t: t.test_some_weights_can_be_set_and_the_others_stay(),
    "refusal": lambda t: t.test_weights_that_do_not_fit_are_refused_and_nothing_changes(
        {"hidden.bias": np.ones(7, np.float32), "head.bias": np.ones(1, np.float32)}, "head.bias"
    ),
    "count": lambda t: t.test_the_framework_counts_what_the_graph_counts(mlp),
    "alone": lambda t: t.test_two_networks_of_one_model_share_nothing(),
    "nan": lambda t: t.test_nan_in_is_nan_out(mlp),
    "unknown op": lambda t: t.test_unknown_op_is_refused_in_one_line_that_names_it(),
    "device": lambda t: t.test_unknown_device_is_refused(),
    "sgd": steps,
    "nesterov": lambda t: steps(t, "nesterov"),
    "adam": lambda t: steps(t, "adam"),
    "adam epsilon": lambda t: steps(t, "adam with a large epsilon"),
    "adamw": lambda t: steps(t, "adamw"),
    "rmsprop": lambda t: steps(t, "rmsprop with momentum"),
    "smoothing": lambda t: t.test_loss_and_gradients_follow_the_definition("label smoothing"),
    "class weights": lambda t: t.test_loss_and_gradients_follow_the_definition("class weights"),
    "clip": lambda t: t.test_gradients_are_clipped_by_their_common_norm(0.05),
    "no clip": lambda t: t.test_gradients_are_clipped_by_their_common_norm(1e3),
    "rate of zero": lambda t: t.test_rate_of_zero_moves_no_weight(),
    "batch sizes": lambda t: t.test_batch_size_may_change_from_step_to_step(),
    "later trainer": lambda t: t.test_a_later_trainer_starts_from_the_weights_as_they_are(),
}


@pytest.mark.parametrize("check", CHECKS)
def test_engine_that_keeps_its_promises_passes(suite, check):
    CHECKS[check](suite(NumpyEngine()))


def with_spec(**changes):
    """A trainer that quietly runs another rule."""

    def init(self, lowered, plan):
        NumpyTrainer.__init__(self, lowered, plan)
        self.optimizer.spec = type(plan.optimizer)(**{**vars(plan.optimizer), **changes})

    return {"__init__": init}


def with_plan(**changes):
    def init(self, lowered, plan):
        NumpyTrainer.__init__(self, lowered, type(plan)(**{**vars(plan), **changes}))

    return {"__init__": init}


def rescaled_velocity(self, lr):
    """Momentum as Keras keeps it: the velocity carries the rate it was made with."""
    for name in self.optimizer._first:
        self.optimizer._first[name] = self.optimizer._first[name] * (self.optimizer.lr / lr)
    self.optimizer.lr = lr


def unchecked(self, arrays):
    """Writes what fits before it finds what does not."""
    for name, array in arrays.items():
        NumpyLowered.set_weights(self, {name: array})


def decays_biases(self, lowered, plan):
    NumpyTrainer.__init__(self, lowered, plan)
    self.optimizer._decay = lambda name: plan.optimizer.weight_decay


def same_rate(self, lowered, plan):
    NumpyTrainer.__init__(self, lowered, plan)
    self.optimizer._rate = lambda name: self.optimizer.lr


def summed(self, x, y):
    return {name: g * len(x) for name, g in NumpyTrainer.gradients(self, x, y).items()}


def epsilon_hat(self, lowered, plan):
    """Adam with epsilon inside the bias correction, as Keras and MXNet have it."""
    NumpyTrainer.__init__(self, lowered, plan)
    spec, optimizer = plan.optimizer, self.optimizer

    def step(name, w, g):
        (b1, b2), t = spec.betas, optimizer.t
        m = optimizer._first[name] = b1 * optimizer._first.get(name, 0) + (1 - b1) * g
        s = optimizer._second[name] = b2 * optimizer._second.get(name, 0) + (1 - b2) * g**2
        rate = optimizer._rate(name) * np.sqrt(1 - b2**t) / (1 - b1**t)
        return w - rate * m / (np.sqrt(s) + spec.eps)

    optimizer._adam_step = step


MUTANTS = {
    "one row for all": ("outputs", {"run": lambda s, i: {"logits": NumpyLowered.run(s, i)["logits"][:1]}}, {}),
    "float64 logits": ("outputs", {"run": lambda s, i: {"logits": mlp_forward(s.arrays, i["x"])}}, {}),
    "nan as zero": ("nan", {"run": lambda s, i: {"logits": np.nan_to_num(NumpyLowered.run(s, i)["logits"])}}, {}),
    "renamed": ("names", {"weights": lambda s: {f"0.{k}": v for k, v in NumpyLowered.weights(s).items()}}, {}),
    "rounded": ("names", {"weights": lambda s: {k: v + 1e-7 for k, v in NumpyLowered.weights(s).items()}}, {}),
    "own layout": ("names", {"weights": lambda s: {k: v.T for k, v in NumpyLowered.weights(s).items()}}, {}),
    "weights are not set": ("round trip", {"set_weights": lambda s, arrays: None}, {}),
    "views": ("copies", {"weights": lambda s: s.arrays}, {}),
    "half written": ("refusal", {"set_weights": unchecked}, {}),
    "broadcasts": ("refusal", {"set_weights": lambda s, a: s.arrays.update(a)}, {}),
    "lost parameter": ("count", {"trainable_count": 70}, {}),
    "no momentum": ("sgd", {}, with_spec(momentum=0.0)),
    "velocity with the rate": ("sgd", {}, {"set_lr": rescaled_velocity}),
    "rate never changes": ("sgd", {}, {"set_lr": lambda s, lr: None}),
    "decays biases": ("sgd", {}, {"__init__": decays_biases}),
    "one rate for all": ("sgd", {}, {"__init__": same_rate}),
    "plain momentum": ("nesterov", {}, with_spec(nesterov=False)),
    "adamw for adam": ("adam", {}, with_spec(name="adamw")),
    "adam for adamw": ("adamw", {}, with_spec(name="adam")),
    "epsilon-hat": ("adam epsilon", {}, {"__init__": epsilon_hat}),
    "rmsprop without momentum": ("rmsprop", {}, with_spec(momentum=0.0)),
    "summed loss": ("class weights", {}, {"gradients": summed}),
    "hard labels": ("smoothing", {}, with_plan(label_smoothing=0.0)),
    "equal classes": ("class weights", {}, with_plan(class_weights=None)),
    "unclipped": ("clip", {}, with_plan(clip_norm=None)),
    "always clipped": ("no clip", {}, with_plan(clip_norm=0.1)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_broken_promise_is_caught(suite, name):
    check, lowered, trainer = MUTANTS[name]
    with pytest.raises((AssertionError, pytest.fail.Exception, ModelError)):
        CHECKS[check](suite(mutant(lowered, trainer)))


def test_all_checks_are_collected():
    names = {name for name in dir(Conformance) if name.startswith("test_")}
    assert len(names) >= 35


# ---- the oracle itself


@pytest.mark.parametrize("changes", [{}, {"label_smoothing": 0.2, "class_weights": (1.0, 2.0, 0.5, 3.0)}])
def test_oracle_gradients_equal_finite_differences(changes):
    model = mlp()
    plan = plan_for(model, **changes)
    weights = {name: array.astype(np.float64) for name, array in model.weights().items()}
    x, y = batch(model, 5)
    _, gradients = mlp_gradients(weights, x, y, plan)
    for name, gradient in gradients.items():
        expected = finite_differences(lambda w: mlp_gradients(w, x, y, plan)[0], weights, name, list(range(4)))
        np.testing.assert_allclose(gradient.reshape(-1)[:4], expected, rtol=1e-5, atol=1e-9)


def test_oracle_batch_norm_has_zero_mean_and_unit_biased_variance():
    x = np.random.default_rng(0).normal(3, 2, (6, 3, 2, 2))
    y = batch_norm(x, np.ones(3), np.zeros(3), 0.0)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-12)


def test_networks_are_the_same_every_time():
    for network in (mlp, convnet, batch_norm_network):
        assert network().digest() == network().digest()
