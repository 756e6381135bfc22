"""Gradients through every kind of layer, by finite differences of the standard's own evaluator in float64."""

from __future__ import annotations

import numpy as np
import pytest

from portnet.adapter import ParameterPlan
from portnet.errors import UnsupportedError
from portnet.testing.conformance.base import EngineCase, batch, plan_for
from portnet.testing.layers import LAYERS, layer_network
from portnet.testing.networks import reference_run
from portnet.testing.oracle import cross_entropy, finite_differences

__all__ = ["GradientConformance"]

PLACES = 3
# as many examples as channels: the evaluator's LRN takes the one count for the other (onnx 1.23)
EXAMPLES = 6


class GradientConformance(EngineCase):
    """What `Trainer.gradients` promises, layer by layer."""

    @pytest.mark.parametrize("layer", LAYERS)
    def test_gradients_through_a_layer_equal_finite_differences(self, layer):
        model = layer_network(layer)
        x, y = batch(model, EXAMPLES)
        plan = plan_for(model)
        try:
            lowered = self.lower(model)
        except UnsupportedError as error:
            pytest.skip(str(error))
        gradients = lowered.trainer(plan).gradients(x, y)
        assert set(gradients) == set(plan.parameters)
        weights = {name: array.astype(np.float64) for name, array in model.weights().items()}
        for name, gradient in gradients.items():
            places = list(np.random.default_rng(1).permutation(gradient.size)[:PLACES])
            expected = finite_differences(lambda w: _loss(model, w, x, y, plan), weights, name, places)
            scale = np.abs(gradient).max()
            got = gradient.reshape(-1)[places]
            np.testing.assert_allclose(got, expected, rtol=5e-3, atol=1e-3 * scale + 1e-6, err_msg=name)
        self._with_frozen_prefix(model, lowered, gradients, x, y)

    @staticmethod
    def _with_frozen_prefix(model, lowered, gradients, x, y):
        """What is behind a frozen layer has the same gradients: the layer's input now needs none."""
        parameters = {name: ParameterPlan(trainable=name != "pre") for name in gradients}
        again = lowered.trainer(plan_for(model, parameters=parameters)).gradients(x, y)
        assert set(again) == set(gradients) - {"pre"}
        for name, gradient in again.items():
            np.testing.assert_allclose(gradient, gradients[name], rtol=1e-4, atol=1e-6, err_msg=name)


def _loss(model, weights, x, y, plan):
    return cross_entropy(reference_run(model, x.astype(np.float64), weights), y, plan)[0]
