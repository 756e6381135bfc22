"""What is trained, on what and how: backbone and head as one network, batches, and the plan of an engine's trainer."""

from __future__ import annotations

from dataclasses import replace

from portnet.adapter import TrainPlan
from portnet.data.loader import Loader
from portnet.errors import InputError
from portnet.finetuning.backbone import Backbone
from portnet.finetuning.freeze_table import FreezeTable
from portnet.finetuning.sets import Sets
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model
from portnet.weights.catalogue import CATALOGUE

__all__ = ["build_network", "loaders", "settled", "train_plan"]


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


def settled(settings: Settings, network: Model) -> Settings:
    """Return settings with the weights that were found by the name of those that they stand in for.

    So a run that goes on or is done again, here or elsewhere, asks for these and takes no others.
    """
    found = network.metadata.provenance.get("weights")
    standing_in = {e.name for e in CATALOGUE if e.network == settings.backbone and e.stands_in_for == settings.weights}
    return settings.but(weights=found) if settings.weights is not None and found in standing_in else settings


def loaders(sets: Sets, settings: Settings, network: Model) -> tuple[Loader, Loader | None]:
    """Return the batches of training images and of validation images, if there are any."""
    preprocessing = network.preprocessing
    assert preprocessing is not None
    size, seed, decoder = settings.images_per_step, settings.seed, sets.decoder
    train = Loader(
        sets.train,
        preprocessing,
        size,
        shuffle=True,
        seed=seed,
        decoder=decoder,
        augment=settings.augment,
        oversample=settings.balance == "oversample",
    )
    if sets.val is None:
        return train, None
    return train, Loader(sets.val, preprocessing, size, shuffle=False, seed=seed, decoder=decoder)


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
