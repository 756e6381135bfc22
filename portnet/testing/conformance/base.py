"""What the parts of the conformance suite share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from portnet.adapter import Adapter, Lowered, OptimizerSpec, ParameterPlan, TrainPlan
from portnet.engines import engine
from portnet.graph.digests import weights_digest
from portnet.graph.model import Model
from portnet.graph.parameters import Role

__all__ = ["EngineCase", "batch", "only", "plan_for", "statistics_of"]


class EngineCase:
    """A group of tests of the engine called ``engine_name``."""

    engine_name: ClassVar[str]

    @property
    def adapter(self) -> Adapter:
        """The engine under test."""
        return engine(self.engine_name)

    def lower(self, model: Model) -> Lowered:
        """Lower ``model`` onto the engine under test."""
        return self.adapter.lower(model)


def batch(model: Model, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a random batch for ``model``: x float32 in its input's shape, y int64 below its class count."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (size, *model.inputs[0].shape[1:]))  # type: ignore[index]
    classes: Any = model.outputs[0].shape[-1]  # type: ignore[index]
    return x.astype(np.float32), generator.integers(0, classes, size)


def plan_for(model: Model, optimizer: OptimizerSpec | None = None, **changes: Any) -> TrainPlan:
    """Return a plan that trains everything with plain sgd, statistics too, but for ``changes``."""
    parameters = {name: ParameterPlan() for name, role in model.roles.items() if role.trainable}
    plan = TrainPlan(optimizer or OptimizerSpec("sgd", lr=0.1, momentum=0.0), parameters)
    return replace(plan, **changes)


def statistics_of(model: Model) -> frozenset[str]:
    """Names of all running means and variances."""
    return frozenset(name for name, role in model.roles.items() if role is Role.STATISTIC)


def only(lowered: Lowered, names: Any) -> str:
    """Digest of the weights called ``names`` as they are now."""
    weights = lowered.weights()
    return weights_digest({name: weights[name] for name in names})
