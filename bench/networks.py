"""Zoo networks with random weights that can be timed: their batch norms know the statistics of what flows through.

With statistics that do not fit, activations of a deep random network shrink to denormal numbers, which processors
compute with a hundred times slower.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bench.batch import LR, MOMENTUM, Batch
from portnet import zoo
from portnet.adapter import Adapter, Lowered, OptimizerSpec, ParameterPlan, Trainer, TrainPlan
from portnet.graph.model import Model

__all__ = ["calibrated", "lowered", "trainer"]


def lowered(adapter: Adapter, name: str, batch: Batch) -> Lowered:
    """Return a zoo network on an engine, its running statistics those of ``batch``."""
    return adapter.lower(calibrated(adapter, name, batch))


def calibrated(adapter: Adapter, name: str, batch: Batch) -> Model:
    """Return a zoo network with random weights, its running statistics those of ``batch``."""
    model = zoo.load(name, weights=None, size=batch.x.shape[-1])
    return model.with_weights(_statistics(adapter, model, batch))


def trainer(network: Lowered, lr: float = LR) -> Trainer:
    """Return a trainer of every parameter with SGD and momentum."""
    names = [name for name, role in network.model.roles.items() if role.trainable]
    spec = OptimizerSpec("sgd", lr=lr, momentum=MOMENTUM)
    return network.trainer(TrainPlan(spec, dict.fromkeys(names, ParameterPlan())))


def _statistics(adapter: Adapter, model: Model, batch: Batch) -> dict[str, np.ndarray]:
    """Return the running statistics after one training step that remembers nothing of those before it."""
    model = model.copy()
    for node in model.ir.graph:
        if node.op_type == "BatchNormalization":
            node.attributes["momentum"] = ir.AttrFloat32("momentum", 0.0)
    network = adapter.lower(model)
    trainer(network, lr=0.0).step(batch.x, batch.y)
    statistics = {name for name, role in network.model.roles.items() if role.name == "STATISTIC"}
    return {name: array for name, array in network.weights().items() if name in statistics}
