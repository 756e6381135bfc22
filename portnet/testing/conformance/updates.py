"""Training steps: loss, gradients and update rules, step by step against float64 numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.finetuning.schedule import Schedule
from portnet.graph.digests import weights_digest
from portnet.graph.model import Model
from portnet.testing.conformance.base import EngineCase, batch, only, plan_for, statistics_of
from portnet.testing.networks import BATCH_NORM_EPS, batch_norm_network, convnet, dropout_network, mlp, reference_run
from portnet.testing.oracle import (
    Arrays,
    Optimizer,
    batch_norm,
    clipped,
    cross_entropy,
    finite_differences,
    mlp_forward,
    mlp_gradients,
)

__all__ = ["UpdateConformance"]

RULES = {
    "sgd": OptimizerSpec("sgd", lr=0.1, momentum=0.0),
    "sgd with momentum": OptimizerSpec("sgd", lr=0.1, momentum=0.9, weight_decay=0.02),
    "nesterov": OptimizerSpec("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.02),
    "adam": OptimizerSpec("adam", lr=0.02, betas=(0.8, 0.95), weight_decay=0.02),
    "adam with a large epsilon": OptimizerSpec("adam", lr=0.02, eps=1e-2),
    "adamw": OptimizerSpec("adamw", lr=0.02, weight_decay=0.1),
    "rmsprop": OptimizerSpec("rmsprop", lr=0.01, momentum=0.0, rho=0.9, weight_decay=0.02),
    "rmsprop with momentum": OptimizerSpec("rmsprop", lr=0.005, momentum=0.5, eps=1e-3),
}
# every schedule, one after the other: the rate falls, rises and jumps
SCHEDULES = (
    Schedule("constant"),
    Schedule("constant", warmup=3),
    Schedule("step", step_size=2, gamma=0.1),
    Schedule("cosine", warmup=2),
    Schedule("one-cycle"),
)
STEPS = 6
LOSSES = {
    "plain": {},
    "label smoothing": {"label_smoothing": 0.2},
    "class weights": {"class_weights": (0.5, 1.0, 2.0, 3.0)},
    "both": {"label_smoothing": 0.2, "class_weights": (0.5, 1.0, 2.0, 3.0)},
}


def float64(arrays: Arrays) -> Arrays:
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def mixed(model: Model) -> dict[str, ParameterPlan]:
    """Return a plan whose head learns three times as fast and whose biases do not decay."""
    return {
        name: ParameterPlan(True, 3.0 if name.startswith("head") else 1.0, name.endswith("weight"))
        for name, role in model.roles.items()
        if role.trainable
    }


def mixed_targets(model: Model, y: np.ndarray) -> np.ndarray:
    """Return distributions as mixup makes them: each row 0.7 of one class and 0.3 of the next row's."""
    one_hot = np.eye(model.outputs[0].shape[-1], dtype=np.float32)[y]  # type: ignore[index, arg-type]
    return np.float32(0.7) * one_hot + np.float32(0.3) * np.roll(one_hot, -1, axis=0)


def training_loss(model: Model, weights: Arrays, x: np.ndarray, y: np.ndarray) -> float:
    """Return the loss of `batch_norm_network` in training mode, float64."""
    normal = batch_norm(x, weights["bn.weight"], weights["bn.bias"], BATCH_NORM_EPS)
    logits = normal.reshape(len(x), -1) @ weights["head.weight"].T + weights["head.bias"]
    return cross_entropy(logits, y, plan_for(model))[0]


class UpdateConformance(EngineCase):
    """What `Trainer.step`, `Trainer.gradients` and `Trainer.set_lr` promise."""

    @pytest.mark.parametrize("rule", RULES)
    def test_steps_follow_the_definition_while_the_rate_changes(self, rule):
        model = mlp()
        lowered = self.lower(model)
        plan = plan_for(model, RULES[rule], parameters=mixed(model))
        trainer, oracle, weights = lowered.trainer(plan), Optimizer(plan.optimizer, plan.parameters), model.weights()
        weights = float64(weights)
        factors = [schedule.factor(step, STEPS) for schedule in SCHEDULES for step in range(STEPS)]
        for number, factor in enumerate(factors):
            x, y = batch(model, 6, seed=number)
            trainer.set_lr(plan.optimizer.lr * factor)
            oracle.lr = plan.optimizer.lr * factor
            loss, gradients = mlp_gradients(weights, x.astype(np.float64), y, plan)
            result = trainer.step(x, y)
            assert result.loss == pytest.approx(loss, rel=2e-4, abs=1e-5), f"step {number}"
            assert result.correct == (mlp_forward(weights, x).argmax(axis=1) == y).sum()
            weights = oracle.step(weights, gradients)
            for name, array in lowered.weights().items():
                np.testing.assert_allclose(array, weights[name], rtol=2e-4, atol=2e-5, err_msg=f"{name}, step {number}")

    @pytest.mark.parametrize("loss", LOSSES)
    def test_loss_and_gradients_follow_the_definition(self, loss):
        model = mlp()
        plan = plan_for(model, **LOSSES[loss])
        x, y = batch(model, 9)
        expected_loss, expected = mlp_gradients(float64(model.weights()), x.astype(np.float64), y, plan)
        trainer = self.lower(model).trainer(plan)
        gradients = trainer.gradients(x, y)
        assert set(gradients) == set(expected)
        for name, array in gradients.items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
        assert trainer.step(x, y).loss == pytest.approx(expected_loss, rel=1e-5)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_targets_may_be_distributions(self, loss):
        model = mlp()
        plan = plan_for(model, **LOSSES[loss])
        x, indices = batch(model, 9)
        y = mixed_targets(model, indices)
        weights = float64(model.weights())
        expected_loss, expected = mlp_gradients(weights, x.astype(np.float64), y, plan)
        trainer = self.lower(model).trainer(plan)
        gradients = trainer.gradients(x, y)
        assert set(gradients) == set(expected)
        for name, array in gradients.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
        result = trainer.step(x, y)
        assert result.loss == pytest.approx(expected_loss, rel=1e-5)
        assert result.correct == (mlp_forward(weights, x).argmax(axis=1) == y.argmax(axis=1)).sum()

    @pytest.mark.parametrize("loss", LOSSES)
    def test_one_hot_targets_are_class_indices(self, loss):
        model = mlp()
        x, y = batch(model, 6)
        one_hot = np.eye(model.outputs[0].shape[-1], dtype=np.float32)[y]
        given, same = self.lower(model), self.lower(model)
        plan = plan_for(model, **LOSSES[loss])
        result = given.trainer(plan).step(x, y)
        again = same.trainer(plan).step(x, one_hot)
        assert (again.loss, again.correct) == (pytest.approx(result.loss, rel=1e-6), result.correct)
        for name, array in given.weights().items():
            np.testing.assert_allclose(same.weights()[name], array, rtol=1e-5, atol=1e-7, err_msg=name)

    @pytest.mark.parametrize("limit", [0.05, 1e3])
    def test_gradients_are_clipped_by_their_common_norm(self, limit):
        model = mlp()
        plan = plan_for(model, OptimizerSpec("sgd", lr=1.0, momentum=0.0), clip_norm=limit)
        x, y = batch(model, 6)
        weights = float64(model.weights())
        _, gradients = mlp_gradients(weights, x.astype(np.float64), y, plan)
        expected = Optimizer(plan.optimizer, plan.parameters).step(weights, clipped(gradients, limit))
        lowered = self.lower(model)
        lowered.trainer(plan).step(x, y)
        for name, array in lowered.weights().items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)

    @pytest.mark.parametrize("soft", [False, True], ids=["indices", "distributions"])
    @pytest.mark.parametrize("loss", ["plain", "both"])
    def test_a_batch_in_pieces_is_a_whole_batch(self, loss, soft):
        model = mlp()
        plan = plan_for(model, RULES["adam"], accumulate=3, clip_norm=0.3, **LOSSES[loss])
        lowered = self.lower(model)
        trainer, oracle = lowered.trainer(plan), Optimizer(plan.optimizer, plan.parameters)
        weights = float64(model.weights())
        for number, size in enumerate((9, 7, 2, 1)):
            x, indices = batch(model, size, seed=number)
            y = mixed_targets(model, indices) if soft else indices
            expected, gradients = mlp_gradients(weights, x.astype(np.float64), y, plan)
            result = trainer.step(x, y)
            assert result.loss == pytest.approx(expected, rel=2e-4), f"step {number}"
            # the larger part of a mixture is the row's own class
            assert result.correct == (mlp_forward(weights, x).argmax(axis=1) == indices).sum()
            weights = oracle.step(weights, clipped(gradients, plan.clip_norm))
        for name, array in lowered.weights().items():
            np.testing.assert_allclose(array, weights[name], rtol=2e-4, atol=2e-5, err_msg=name)

    def test_convolution_gradients_equal_finite_differences(self):
        model = convnet()
        plan = plan_for(model, frozen_statistics=statistics_of(model))
        x, y = batch(model, 3)
        weights = float64(model.weights())
        gradients = self.lower(model).trainer(plan).gradients(x, y)
        assert set(gradients) == set(plan.parameters)
        for name in plan.parameters:
            self._same_as_differences(gradients[name], lambda w: _inference_loss(model, w, x, y, plan), weights, name)

    def test_batch_norm_gradients_in_training_mode_equal_finite_differences(self):
        model = batch_norm_network()
        x, y = batch(model, 5)
        gradients = self.lower(model).trainer(plan_for(model)).gradients(x, y)
        weights = float64(model.weights())
        for name in gradients:
            loss = lambda w: training_loss(model, w, x.astype(np.float64), y)  # noqa: E731
            self._same_as_differences(gradients[name], loss, weights, name)

    @staticmethod
    def _same_as_differences(gradient, loss, weights, name):
        assert gradient.shape == weights[name].shape, name
        places = list(np.random.default_rng(3).permutation(gradient.size)[:4])
        expected = finite_differences(loss, weights, name, places)
        np.testing.assert_allclose(gradient.reshape(-1)[places], expected, rtol=2e-3, atol=1e-5, err_msg=name)

    @pytest.mark.parametrize("network", [convnet, dropout_network])
    def test_gradients_change_nothing(self, network):
        model = network()
        x, y = batch(model, 4)
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model, OptimizerSpec("adam", lr=0.01)))
        trainer.step(x, y)
        before = weights_digest(lowered.weights()), weights_digest(dict(trainer.state()))
        trainer.gradients(x, y)
        assert (weights_digest(lowered.weights()), weights_digest(dict(trainer.state()))) == before

    def test_every_parameter_moves(self):
        model = convnet()
        x, y = batch(model, 8)
        lowered = self.lower(model)
        before = lowered.weights()
        lowered.trainer(plan_for(model)).step(x, y)
        after = lowered.weights()
        still = [name for name, role in model.roles.items() if role.trainable and (before[name] == after[name]).all()]
        # a bias before a batch norm in training mode has no gradient but rounding
        assert set(still) <= {"group.bias"}

    def test_rate_of_zero_moves_no_weight(self):
        model = mlp()
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model))
        trainer.set_lr(0.0)
        trainer.step(*batch(model, 4))
        assert only(lowered, model.weights()) == weights_digest(model.weights())

    def test_batch_size_may_change_from_step_to_step(self):
        model = mlp()
        lowered = self.lower(model)
        plan = plan_for(model)
        trainer, weights = lowered.trainer(plan), float64(model.weights())
        oracle = Optimizer(plan.optimizer, plan.parameters)
        for size in (8, 8, 3, 1):
            x, y = batch(model, size, seed=size)
            weights = oracle.step(weights, mlp_gradients(weights, x.astype(np.float64), y, plan)[1])
            trainer.step(x, y)
        for name, array in lowered.weights().items():
            np.testing.assert_allclose(array, weights[name], rtol=1e-4, atol=1e-5, err_msg=name)

    def test_trained_weights_written_back_give_the_same_network(self):
        model = convnet()
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model))
        for seed in range(3):
            trainer.step(*batch(model, 6, seed))
        x, _ = batch(model, 5, seed=9)
        weights = {name: array for name, array in lowered.weights().items() if name in model.weights()}
        written = model.with_weights(weights)
        np.testing.assert_allclose(lowered.predict(x), reference_run(written, x), rtol=1e-3, atol=1e-4)

    def test_a_later_trainer_starts_from_the_weights_as_they_are(self):
        model = mlp()
        lowered = self.lower(model)
        lowered.trainer(plan_for(model)).step(*batch(model, 4, 1))
        plan = plan_for(model, replace(RULES["adam"]))
        weights = float64(lowered.weights())
        x, y = batch(model, 4, 2)
        expected = Optimizer(plan.optimizer, plan.parameters).step(
            weights, mlp_gradients(weights, x.astype(np.float64), y, plan)[1]
        )
        lowered.trainer(plan).step(x, y)
        for name, array in lowered.weights().items():
            np.testing.assert_allclose(array, expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


def _inference_loss(model: Model, weights: Arrays, x: np.ndarray, y: np.ndarray, plan: TrainPlan) -> float:
    return cross_entropy(reference_run(model, x.astype(np.float64), weights), y, plan)[0]
