"""What is trained and how: backbone and head as one network, and the plan that an engine's trainer follows."""

from __future__ import annotations

from dataclasses import replace

from portnet.adapter import TrainPlan
from portnet.errors import InputError
from portnet.finetuning.backbone import Backbone
from portnet.finetuning.freeze import FreezeTable
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model

__all__ = ["build_network", "train_plan"]


def build_network(settings: Settings, classes: tuple[str, ...], backbone: Model | Backbone | None) -> Model:
    """Return backbone and head as one network, with its labels and preprocessing.

    Raises:
        InputError: the backbone says nothing of its preprocessing.
    """
    if not isinstance(backbone, Backbone):
        source = backbone if backbone is not None else settings.backbone
        backbone = Backbone.of(source, weights=settings.weights, size=settings.size)
    model = settings.head.attach(backbone, classes, settings.seed)
    preprocessing = backbone.model.preprocessing
    if preprocessing is None:
        raise InputError(
            f"the backbone {settings.backbone!r} does not say how images become its input. Load it with "
            "portnet.Model.load, set model.preprocessing, and pass the model as backbone."
        )
    model.preprocessing = preprocessing if settings.crop else replace(preprocessing, resize=None)
    return model


def train_plan(
    table: FreezeTable, settings: Settings, network: Model, class_weights: tuple[float, ...] | None
) -> TrainPlan:
    """Return the plan for an engine: the part of the table that is in ``network``."""
    present = network.ir.graph.initializers
    return TrainPlan(
        optimizer=settings.optimizer,
        parameters={name: plan for name, plan in table.parameters.items() if name in present},
        frozen_statistics=frozenset(name for name in table.frozen_statistics if name in present),
        label_smoothing=settings.label_smoothing,
        class_weights=class_weights,
        clip_norm=settings.clip_norm,
        seed=settings.seed,
        accumulate=settings.accumulate,
        precision=settings.precision,
        compile=settings.compile,
    )
