"""Resuming: a run that stops and goes on ends bit-identical to one that did not stop."""

from __future__ import annotations

import numpy as np
import pytest

from portnet.adapter import OptimizerSpec
from portnet.graph.digests import weights_digest
from portnet.testing.conformance.base import EngineCase, batch, plan_for
from portnet.testing.networks import convnet, dropout_network

__all__ = ["ResumeConformance"]

RULES = [
    OptimizerSpec("sgd", lr=0.05, momentum=0.9, nesterov=True),
    OptimizerSpec("adam", lr=0.01),
    OptimizerSpec("adamw", lr=0.01, weight_decay=0.1),
    OptimizerSpec("rmsprop", lr=0.01),
]


class ResumeConformance(EngineCase):
    """What `Trainer.state` and `Trainer.load_state` promise, and what a seed means."""

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
    @pytest.mark.parametrize("network", [convnet, dropout_network])
    def test_resumed_run_ends_bit_identical(self, network, rule):
        model = network()
        plan = plan_for(model, rule, seed=5)
        whole = self.lower(model)
        trainer = whole.trainer(plan)
        losses = [trainer.step(*batch(model, 4, seed)).loss for seed in range(2)]
        weights, state = whole.weights(), {name: np.copy(array) for name, array in trainer.state().items()}
        losses += [trainer.step(*batch(model, 4, seed)).loss for seed in range(2, 5)]

        resumed = self.lower(model)
        resumed.set_weights(weights)
        second = resumed.trainer(plan)
        second.load_state(state)
        again = [second.step(*batch(model, 4, seed)).loss for seed in range(2, 5)]
        assert again == losses[2:]
        assert weights_digest(resumed.weights()) == weights_digest(whole.weights())
        assert weights_digest(dict(second.state())) == weights_digest(dict(trainer.state()))

    def test_state_is_arrays_and_a_copy(self):
        model = dropout_network()
        trainer = self.lower(model).trainer(plan_for(model, OptimizerSpec("adam", lr=0.01)))
        trainer.step(*batch(model, 4))
        state = trainer.state()
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
        before = weights_digest(dict(state))
        trainer.step(*batch(model, 4))
        assert weights_digest(dict(state)) == before
        assert weights_digest(dict(trainer.state())) != before

    def test_same_seed_same_masks_another_seed_others(self):
        losses = [self._losses(seed) for seed in (1, 1, 2)]
        assert losses[0] == losses[1]
        assert losses[0] != losses[2]

    def _losses(self, seed):
        model = dropout_network()
        trainer = self.lower(model).trainer(plan_for(model, seed=seed))
        return [trainer.step(*batch(model, 4, number)).loss for number in range(3)]
