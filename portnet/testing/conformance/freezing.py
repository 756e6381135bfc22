"""Freezing: frozen means bit-identical, and costs no gradient."""

from __future__ import annotations

import pytest

from portnet.adapter import OptimizerSpec, ParameterPlan
from portnet.graph.digests import weights_digest
from portnet.testing.conformance.base import EngineCase, batch, only, plan_for, statistics_of
from portnet.testing.networks import convnet

__all__ = ["FreezingConformance"]

# what stays trainable: the head alone, a layer in the middle alone, all but a layer in the middle
TRAINABLE = {
    "head": lambda name: name.startswith("head"),
    "middle": lambda name: name.startswith("group"),
    "first": lambda name: name.startswith("stem"),
    "all but the middle": lambda name: not name.startswith(("group", "bn2")),
}
RULES = [
    OptimizerSpec("sgd", lr=0.1, momentum=0.9, weight_decay=0.1),
    OptimizerSpec("adamw", lr=0.01, weight_decay=0.1),
    OptimizerSpec("rmsprop", lr=0.01, weight_decay=0.1),
]


class FreezingConformance(EngineCase):
    """What `ParameterPlan.trainable` and `TrainPlan.frozen_statistics` promise."""

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
    @pytest.mark.parametrize("part", TRAINABLE)
    def test_frozen_weights_and_statistics_stay_bit_identical(self, part, rule):
        model = convnet()
        plan = self._plan(model, part, rule)
        frozen = {name for name, p in plan.parameters.items() if not p.trainable} | statistics_of(model)
        lowered = self.lower(model)
        trainer = lowered.trainer(plan)
        for seed in range(3):
            trainer.step(*batch(model, 5, seed))
        before, after = model.weights(), lowered.weights()
        assert only(lowered, frozen) == weights_digest({name: before[name] for name in frozen})
        moved = {name for name in before if (before[name] != after[name]).any()}
        assert moved == set(before) - frozen

    @pytest.mark.parametrize("part", TRAINABLE)
    def test_gradients_are_those_of_what_is_trainable(self, part):
        model = convnet()
        plan = self._plan(model, part, RULES[0])
        gradients = self.lower(model).trainer(plan).gradients(*batch(model, 4))
        assert set(gradients) == {name for name, p in plan.parameters.items() if p.trainable}

    def test_the_framework_counts_trainable_scalars_again_when_a_plan_thaws_them(self):
        model = convnet()
        lowered = self.lower(model)
        lowered.trainer(self._plan(model, "head", RULES[0])).step(*batch(model, 4))
        trainer = lowered.trainer(plan_for(model))
        before = lowered.weights()
        trainer.step(*batch(model, 4, 1))
        after = lowered.weights()
        assert (before["stem.weight"] != after["stem.weight"]).any()
        assert (before["bn1.running_mean"] != after["bn1.running_mean"]).any()
        assert lowered.trainable_count == model.parameter_count

    @staticmethod
    def _plan(model, part, rule):
        parameters = {name: ParameterPlan(TRAINABLE[part](name)) for name in plan_for(model).parameters}
        return plan_for(model, rule, parameters=parameters, frozen_statistics=statistics_of(model))
