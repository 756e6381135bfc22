"""How an engine trains: what it is told, what a step gives back, and the update rules.

Update rules are `RULES`, the core's definition. `Trainer`s are held to them. In them w is a parameter, g its gradient,
r = lr · lr_mult its rate, d = weight_decay where `ParameterPlan.decay`, else 0; state starts at zero; t counts steps
from 1. For sgd this is PyTorch's form, in which a changed rate does not rescale v.

BatchNormalization in training normalises by the batch's biased variance and keeps
running ← momentum · running + (1 − momentum) · batch, mean and **biased** variance both (ONNX opset 15).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "RULES",
    "Inputs",
    "OptimizerSpec",
    "ParameterPlan",
    "StepResult",
    "TrainPlan",
    "Trainer",
    "as_inputs",
    "pieces",
]

RULES: dict[str, str] = {
    "sgd": "g ← g + d·w; v ← μ·v + g; w ← w − r·v, or w ← w − r·(g + μ·v) with nesterov",
    # Kingma & Ba 2015, algorithm 1
    "adam": "g ← g + d·w; m ← β₁·m + (1−β₁)·g; s ← β₂·s + (1−β₂)·g²; w ← w − r · (m / (1−β₁ᵗ)) / (√(s / (1−β₂ᵗ)) + ε)",
    # Loshchilov & Hutter 2019
    "adamw": "w ← w·(1 − r·d), then adam with d = 0",
    "rmsprop": "g ← g + d·w; s ← ρ·s + (1−ρ)·g²; w ← w − r·g / (√s + ε); "
    "with momentum v ← μ·v + g/(√s + ε), w ← w − r·v",
}

# one array, or one for each input of the network, in their order
Inputs = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer by its definition at the top of this module.

    Attributes:
        name: the update rule.
        lr: learning rate to start with; `Trainer.set_lr` changes it.
        momentum: μ of sgd and rmsprop.
        nesterov: sgd only.
        betas: β₁ and β₂ of adam and adamw.
        rho: ρ of rmsprop.
        eps: ε.
        weight_decay: d.
    """

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    rho: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True)
class ParameterPlan:
    """What training may do to one trainable initializer.

    Attributes:
        trainable: False: no gradient is computed, the bytes stay what they are.
        lr_mult: factor on the learning rate.
        decay: whether weight decay applies.
    """

    trainable: bool = True
    lr_mult: float = 1.0
    decay: bool = True


@dataclass(frozen=True)
class TrainPlan:
    """Everything a trainer needs to know, by ONNX names.

    Attributes:
        optimizer: the update rule and its numbers.
        parameters: plan of every trainable initializer (`Role.trainable`), complete.
        frozen_statistics: names of running means and variances that must not move: the BatchNormalization that
            reads them runs on its running statistics. Those not named normalise by the batch and update.
        label_smoothing: ε of the softmax cross-entropy: target (1−ε)·t + ε/classes, where t is one-hot at a class
            index, or the distribution that was given.
        class_weights: weight of each class in the loss, shape (classes,), or None; the loss is then the weighted mean
            Σ wᵢ·lossᵢ / Σ wᵢ of the examples' (smoothed) losses, wᵢ = class_weights · tᵢ, which is w[yᵢ] for an index.
        clip_norm: largest allowed 2-norm over all gradients together, or None.
        seed: seed of the engine's own generator (Dropout masks).
        accumulate: pieces that a step computes a batch in, one after the other, to need less memory: loss, gradients
            and update are the whole batch's but for rounding. Batch norm sees each piece as a batch of its own.
        precision: "fp32"; "tf32" where products of float32 may be rounded; "bf16" or "fp16" for mixed
            precision: weights, statistics and optimizer stay float32, layers compute in the smaller type where the
            framework deems that safe. Prediction stays float32.
        compile: have the framework compile the training step ahead, where it can and does not anyway.
    """

    optimizer: OptimizerSpec
    parameters: Mapping[str, ParameterPlan]
    frozen_statistics: frozenset[str] = frozenset()
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    clip_norm: float | None = None
    seed: int = 0
    accumulate: int = 1
    precision: str = "fp32"
    compile: bool = False


@dataclass(frozen=True)
class StepResult:
    """One training step: mean softmax cross-entropy of the batch, and how many were right."""

    loss: float
    correct: int


def as_inputs(x: Inputs) -> tuple[np.ndarray, ...]:
    """Return what a step is given as one array for each input."""
    return x if isinstance(x, tuple) else (x,)


def pieces(plan: TrainPlan, x: Inputs, y: np.ndarray) -> list[tuple[Inputs, np.ndarray, float]]:
    """Return the pieces that ``plan.accumulate`` cuts a batch into, each with its share of the batch's mean loss.

    The batch's loss is Σ share · loss(piece): a piece counts by its examples, or by their class weights.
    """
    count = min(plan.accumulate, len(y))
    if count <= 1:
        return [(x, y, 1.0)]
    weight = np.ones(len(y))
    if plan.class_weights is not None:
        by_class = np.asarray(plan.class_weights, np.float64)
        weight = y @ by_class if y.ndim == 2 else by_class[y]
    if not weight.sum():
        return [(x, y, 1.0)]
    parts = [tuple(np.array_split(array, count)) for array in as_inputs(x)]
    shares = [float(part.sum() / weight.sum()) for part in np.array_split(weight, count)]
    inputs = [part if isinstance(x, tuple) else part[0] for part in zip(*parts, strict=True)]
    # a piece of weight 0 has no mean loss of its own, and adds nothing
    return [part for part in zip(inputs, np.array_split(y, count), shares, strict=True) if part[2] > 0]


class Trainer(abc.ABC):
    """Trains one lowered network in place. The network's single output is the logits, (N, classes) float32.

    A network may have several inputs: what follows a frozen part that was cut at several tensors has.
    """

    @abc.abstractmethod
    def step(self, x: Inputs, y: np.ndarray) -> StepResult:
        """Take one optimizer step on inputs x and their targets y.

        Args:
            x: (N, C, H, W) or as the input says, float32; a tuple of such arrays, in the order of the network's
                inputs, where it has several. The caller may write over them once the step is done.
            y: int64 (N,) class indices, or float32 (N, classes) distributions over the classes (mixup, cutmix), each
                row from 0 on and of sum 1. An example counts as right when its largest logit is its largest target's.
        """

    def steps(self, x: Inputs, y: np.ndarray, rates: Sequence[float]) -> list[StepResult]:
        """Take several steps in a row, each with its own learning rate; return the result of each.

        An engine may take them in one call of its framework, which spares small networks what a call costs. They must
        be those of `set_lr` and `step`, and a run that is taken apart in another way must come out bit-identical.

        Args:
            x: as for `step`, with the steps as one more axis in front: (K, N, ...).
            y: (K, N) or (K, N, classes).
            rates: K learning rates.
        """
        results = []
        for index, rate in enumerate(rates):
            self.set_lr(rate)
            part = tuple(array[index] for array in x) if isinstance(x, tuple) else x[index]
            results.append(self.step(part, y[index]))
        return results

    @abc.abstractmethod
    def gradients(self, x: Inputs, y: np.ndarray) -> dict[str, np.ndarray]:
        """Return d loss / d parameter by ONNX name, in ONNX's layout, for what is trainable, and change nothing:
        no weight, no statistic, no optimizer state. Batch norm and dropout behave as in training.
        """

    @abc.abstractmethod
    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come; optimizer state stays as the definition says."""

    @abc.abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return optimizer state, step count and random state as arrays: enough for a bit-identical resume."""

    @abc.abstractmethod
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
