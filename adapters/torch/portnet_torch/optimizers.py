"""The core's update rules as torch.optim optimizers, and their state by ONNX name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from portnet.adapter import OptimizerSpec, ParameterPlan

__all__ = ["MOMENTS", "make_optimizer", "set_lr"]

# update rule -> torch's names of its moments and the names under which `Trainer.state` gives them
MOMENTS: dict[str, dict[str, str]] = {
    "sgd": {"momentum_buffer": "momentum"},
    "adam": {"exp_avg": "first_moment", "exp_avg_sq": "second_moment"},
    "adamw": {"exp_avg": "first_moment", "exp_avg_sq": "second_moment"},
    "rmsprop": {"square_avg": "second_moment", "momentum_buffer": "momentum"},
}


def _sgd(spec: OptimizerSpec, groups: list[dict[str, Any]]) -> Optimizer:
    return SGD(groups, spec.lr, momentum=spec.momentum, nesterov=spec.nesterov and spec.momentum > 0, fused=True)


def _adam(spec: OptimizerSpec, groups: list[dict[str, Any]]) -> Optimizer:
    return Adam(groups, spec.lr, betas=spec.betas, eps=spec.eps, fused=True)


def _adamw(spec: OptimizerSpec, groups: list[dict[str, Any]]) -> Optimizer:
    return AdamW(groups, spec.lr, betas=spec.betas, eps=spec.eps, fused=True)


def _rmsprop(spec: OptimizerSpec, groups: list[dict[str, Any]]) -> Optimizer:
    return RMSprop(groups, spec.lr, alpha=spec.rho, eps=spec.eps, momentum=spec.momentum, foreach=True)


_MAKERS: dict[str, Callable[[OptimizerSpec, list[dict[str, Any]]], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}


@dataclass(frozen=True)
class _Group:
    lr_mult: float
    weight_decay: float


def make_optimizer(spec: OptimizerSpec, parameters: Iterable[tuple[ParameterPlan, list[Tensor]]]) -> Optimizer | None:
    """Return the optimizer of a plan, one group for each (lr_mult, decay), or None where nothing trains."""
    groups: dict[_Group, list[Tensor]] = {}
    for plan, tensors in parameters:
        key = _Group(plan.lr_mult, spec.weight_decay if plan.decay else 0.0)
        groups.setdefault(key, []).extend(tensors)
    if not groups:
        return None
    described = [
        {"params": tensors, "weight_decay": key.weight_decay, "lr_mult": key.lr_mult} for key, tensors in groups.items()
    ]
    optimizer = _MAKERS[spec.name](spec, described)
    set_lr(optimizer, spec.lr)
    return optimizer


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the rate of every group to lr · lr_mult."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
