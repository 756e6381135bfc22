"""The update rules of `portnet.adapter`, on fused operators, most of which update many arrays in one call.

They are MXNet's own optimizers', used for what they compute:

* ``multi_sgd_update`` is a ← a − lr · (wd · a + b), so any a ← α·a + β·b.
* ``multi_adamw_update`` is m ← β₁m + (1−β₁)g; s ← β₂s + (1−β₂)g²; a ← a − (lr · m / (√s + ε) + wd · a).
  Adam's bias corrections c₁ = 1−β₁ᵗ and c₂ = 1−β₂ᵗ go into lr · √c₂ / c₁ and ε · √c₂; RMSprop is β₁ = 0.
* ``adam_update`` is the same for one array without wd. It takes three quarters of the time for each element, but a call
  for each array.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from portnet.adapter import OptimizerSpec
from portnet_gluon.compat import mx

__all__ = ["SLOTS", "combine", "update"]

# names of the state arrays of each rule, each of its parameter's shape
SLOTS = {
    "sgd": ("velocity",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
    "rmsprop": ("gradient", "square", "velocity"),
}

# most arrays that the fused operators take in one call
_CHUNK = 45
# elements from which an array is worth a call of its own
_LARGE = 1 << 15

Arrays = Sequence[Any]
Numbers = Sequence[float]


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def combine(targets: Arrays, alphas: Numbers, sources: Arrays, betas: Numbers) -> None:
    """Set each target to α · target + β · source in place; a β of 0 leaves the target as it is."""
    for part in _chunks(len(targets)):
        a, alpha, b, beta = targets[part], alphas[part], sources[part], betas[part]
        mx.nd.multi_sgd_update(
            *(array for pair in zip(a, b, strict=True) for array in pair),
            num_weights=len(a),
            lrs=[-n for n in beta],
            wds=[(m - 1) / n if n else 0.0 for m, n in zip(alpha, beta, strict=True)],
            out=list(a),
        )


@functools.cache
def _one(context: Any) -> Any:
    """Return the scale of gradients that the operator reads from an array; making one takes as long as an update."""
    return mx.nd.ones((1,), ctx=context)


def _adamw(
    targets: Arrays,
    gradients: Arrays,
    means: Arrays,
    squares: Arrays,
    *,
    lrs: Numbers,
    decays: Numbers,
    betas: tuple[float, float],
    eps: float,
) -> None:
    one = _one(targets[0].context)
    for part in _chunks(len(targets)):
        mx.nd.contrib.multi_adamw_update(
            list(targets[part]),
            list(gradients[part]),
            list(means[part]),
            list(squares[part]),
            one,
            lrs=list(lrs[part]),
            wds=list(decays[part]),
            etas=[1.0] * len(targets[part]),
            out=list(targets[part]),
            beta1=betas[0],
            beta2=betas[1],
            epsilon=eps,
        )


def update(
    spec: OptimizerSpec,
    step: int,
    weights: Arrays,
    gradients: Arrays,
    slots: Sequence[Arrays],
    rates: Numbers,
    decays: Numbers,
) -> None:
    """Take step number ``step`` (from 1) on ``weights`` in place; gradients may be overwritten.

    Args:
        spec: the rule and its numbers, but for learning rate and decay.
        step: t of the definition.
        weights: arrays of the parameters.
        gradients: of the loss, one for each parameter.
        slots: state by the names of `SLOTS`, each a list with one array for each parameter.
        rates: r of each parameter.
        decays: d of each parameter.
    """
    ones = [1.0] * len(weights)
    if spec.name != "adamw" and any(decays):
        combine(gradients, ones, weights, decays)
    _RULES[spec.name](spec, step, weights, gradients, slots, rates, decays)


def _sgd(
    spec: OptimizerSpec,
    step: int,
    weights: Arrays,
    gradients: Arrays,
    slots: Sequence[Arrays],
    rates: Numbers,
    decays: Numbers,
) -> None:
    ones, descent, momentum = [1.0] * len(weights), [-r for r in rates], [spec.momentum] * len(weights)
    (velocity,) = slots
    combine(velocity, momentum, gradients, ones)
    if spec.nesterov:
        combine(gradients, ones, velocity, momentum)
    combine(weights, ones, gradients if spec.nesterov else velocity, descent)


def _adam(
    spec: OptimizerSpec,
    step: int,
    weights: Arrays,
    gradients: Arrays,
    slots: Sequence[Arrays],
    rates: Numbers,
    decays: Numbers,
) -> None:
    beta1, beta2 = spec.betas
    root = math.sqrt(1 - beta2**step)
    shrink = [r * d if spec.name == "adamw" else 0.0 for r, d in zip(rates, decays, strict=True)]
    lrs = [r * root / (1 - beta1**step) for r in rates]
    alone = [not d and w.size >= _LARGE for w, d in zip(weights, shrink, strict=True)]
    numbers = {"beta1": beta1, "beta2": beta2, "epsilon": spec.eps * root, "lazy_update": False}
    for weight, gradient, mean, square, lr in _chosen(alone, weights, gradients, *slots, lrs):
        mx.nd.adam_update(weight, gradient, mean, square, lr=lr, out=weight, **numbers)
    rest = list(_chosen([not each for each in alone], weights, gradients, *slots, lrs, shrink))
    if rest:
        *arrays, lrs, shrink = zip(*rest, strict=True)
        _adamw(*arrays, lrs=lrs, decays=shrink, betas=spec.betas, eps=spec.eps * root)


def _chosen(flags: Sequence[bool], *columns: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    return itertools.compress(zip(*columns, strict=True), flags)


def _rmsprop(
    spec: OptimizerSpec,
    step: int,
    weights: Arrays,
    gradients: Arrays,
    slots: Sequence[Arrays],
    rates: Numbers,
    decays: Numbers,
) -> None:
    latest, square, velocity = slots
    ones = [1.0] * len(weights)
    _adamw(
        velocity,
        gradients,
        latest,
        square,
        lrs=[-1.0] * len(weights),
        decays=[1 - spec.momentum] * len(weights),
        betas=(0.0, spec.rho),
        eps=spec.eps,
    )
    combine(weights, ones, velocity, [-r for r in rates])


_RULES = {"sgd": _sgd, "adam": _adam, "adamw": _adam, "rmsprop": _rmsprop}
