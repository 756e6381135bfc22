"""Batch norm's running statistics and Dropout: what differs between training and prediction."""

from __future__ import annotations

import numpy as np
import pytest

from portnet.adapter import OptimizerSpec, ParameterPlan
from portnet.graph.digests import weights_digest
from portnet.testing.conformance.base import EngineCase, batch, only, plan_for, statistics_of
from portnet.testing.networks import batch_norm_network, convnet, dropout_network, reference_run

__all__ = ["StatisticsConformance"]

MEAN, VARIANCE = "bn.running_mean", "bn.running_var"


class StatisticsConformance(EngineCase):
    """How batch norm and Dropout behave in training and in prediction."""

    @pytest.mark.parametrize("momentum", [0.9, 0.7])
    @pytest.mark.parametrize("learns", [True, False])
    def test_running_statistics_follow_onnx(self, momentum, learns):
        """Mean and biased variance, also where the layer's own scale and bias are frozen."""
        model = batch_norm_network(momentum)
        parameters = {name: ParameterPlan(learns or not name.startswith("bn")) for name in plan_for(model).parameters}
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model, parameters=parameters))
        weights = model.weights()
        mean, variance = weights[MEAN].astype(np.float64), weights[VARIANCE].astype(np.float64)
        for seed, size in enumerate((6, 6, 2, 1)):
            x, y = batch(model, size, seed)
            trainer.step(x * 2 + 1, y)
            mean = momentum * mean + (1 - momentum) * (x * 2 + 1).mean((0, 2, 3))
            variance = momentum * variance + (1 - momentum) * (x * 2 + 1).var((0, 2, 3))
            after = lowered.weights()
            np.testing.assert_allclose(after[MEAN], mean, rtol=1e-4, atol=1e-5, err_msg=f"step {seed}")
            np.testing.assert_allclose(after[VARIANCE], variance, rtol=1e-4, atol=1e-5, err_msg=f"step {seed}")

    def test_frozen_statistics_are_used_and_stay_bit_identical(self):
        model = batch_norm_network()
        names = statistics_of(model)
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model, frozen_statistics=names))
        x, y = batch(model, 6)
        logits = reference_run(model, x.astype(np.float64))
        picked = logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(axis=1))
        assert trainer.step(x, y).loss == pytest.approx(-picked.mean(), rel=1e-4)
        trainer.step(x, y)
        assert only(lowered, names) == weights_digest({name: model.weights()[name] for name in names})

    def test_statistics_can_freeze_layer_by_layer(self):
        model = convnet()
        frozen = frozenset(name for name in statistics_of(model) if name.startswith("bn1"))
        lowered = self.lower(model)
        before = lowered.weights()
        trainer = lowered.trainer(plan_for(model, frozen_statistics=frozen))
        trainer.step(*batch(model, 6))
        after = lowered.weights()
        moved = {name for name in statistics_of(model) if (before[name] != after[name]).any()}
        assert moved == statistics_of(model) - frozen

    def test_prediction_uses_running_statistics_while_training_goes_on(self):
        model = convnet()
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model, OptimizerSpec("sgd", lr=0.0, momentum=0.0)))
        x, y = batch(model, 6)
        trainer.step(x, y)
        weights = {name: array for name, array in lowered.weights().items() if name in model.weights()}
        expected = reference_run(model.with_weights(weights), x)
        np.testing.assert_allclose(lowered.predict(x), expected, rtol=1e-3, atol=1e-5)
        # alone in its batch, an example comes out the same
        np.testing.assert_allclose(lowered.predict(x[:1]), expected[:1], rtol=1e-3, atol=1e-5)

    def test_prediction_changes_nothing(self):
        model = convnet()
        lowered = self.lower(model)
        trainer = lowered.trainer(plan_for(model))
        trainer.step(*batch(model, 6))
        before = weights_digest(lowered.weights()), weights_digest(dict(trainer.state()))
        lowered.predict(batch(model, 6, 1)[0])
        assert (weights_digest(lowered.weights()), weights_digest(dict(trainer.state()))) == before

    def test_dropout_is_off_in_prediction(self):
        model = dropout_network()
        lowered = self.lower(model)
        lowered.trainer(plan_for(model)).gradients(*batch(model, 4))
        x, _ = batch(model, 4)
        np.testing.assert_allclose(lowered.predict(x), reference_run(model, x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("ratio", [0.25, 0.5])
    def test_dropout_in_training_drops_its_share_and_scales_the_rest(self, ratio):
        """With one example of ones, column j of the first weight's gradient is scaled by its input's mask."""
        model = dropout_network(ratio)
        trainer = self.lower(model).trainer(plan_for(model))
        x, y = np.ones((1, 64), np.float32), np.array([0])
        kept = []
        for _ in range(12):
            gradients = trainer.gradients(x, y)
            by_hidden, by_weight = gradients["hidden.bias"], gradients["hidden.weight"]
            unit = int(np.abs(by_hidden).argmax())
            if by_hidden[unit] == 0:
                continue
            mask = by_weight[unit] / by_hidden[unit]
            assert np.all(np.isclose(mask, 0, atol=1e-5) | np.isclose(mask, 1 / (1 - ratio), rtol=1e-4))
            kept.append((mask > 0.5).mean())
            trainer.step(x, y)
        assert len(set(kept)) > 1
        assert np.mean(kept) == pytest.approx(1 - ratio, abs=0.12)
