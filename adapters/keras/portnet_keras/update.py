"""The update rules of `portnet.adapter` on TensorFlow variables.

TensorFlow's fused kernels are used where they compute the definition exactly: ``ResourceApplyMomentum`` keeps the
rate out of the velocity, and ``ResourceApplyAdam`` without its own bias correction takes the corrected rate and ε.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from portnet.adapter import OptimizerSpec

__all__ = ["RULES", "Rule", "rule_of"]

Slots = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        slots: names of the state kept for each parameter.
        apply: ``apply(spec, variable, gradient, slots, rate, decay, step)`` updates a float32 variable in place;
            ``decay`` is a number, ``step`` an int64 tensor that counts from 1.
    """

    slots: tuple[str, ...]
    apply: Callable[[OptimizerSpec, Any, Any, Slots, Any, float, Any], None]


def rule_of(spec: OptimizerSpec) -> Rule:
    """Return the rule of an optimizer, without the slots that its numbers make useless."""
    rule = RULES[spec.name]
    keeps_velocity = spec.name in ("adam", "adamw") or spec.momentum != 0
    return rule if keeps_velocity else Rule(tuple(s for s in rule.slots if s != "velocity"), rule.apply)


def _decayed(variable: Any, gradient: Any, decay: float) -> Any:
    return gradient + decay * variable if decay else gradient


def _sgd(spec: OptimizerSpec, w: Any, g: Any, slots: Slots, rate: Any, decay: float, step: Any) -> None:
    g = _decayed(w, g, decay)
    if "velocity" not in slots:
        w.assign_sub(rate * g)
        return
    tf.raw_ops.ResourceApplyMomentum(
        var=w.handle,
        accum=slots["velocity"].handle,
        lr=rate,
        grad=g,
        momentum=spec.momentum,
        use_nesterov=spec.nesterov,
    )


def _adam(spec: OptimizerSpec, w: Any, g: Any, slots: Slots, rate: Any, decay: float, step: Any) -> None:
    g = _decayed(w, g, decay)
    # 1 - 0.999 has five good digits in float32: the corrections are computed in float64
    t, (beta1, beta2) = tf.cast(step, tf.float64), spec.betas
    first, second = 1 - tf.pow(tf.constant(beta1, tf.float64), t), 1 - tf.pow(tf.constant(beta2, tf.float64), t)
    tf.raw_ops.ResourceApplyAdam(
        var=w.handle,
        m=slots["mean"].handle,
        v=slots["square"].handle,
        beta1_power=0.0,
        beta2_power=0.0,
        lr=tf.cast(tf.cast(rate, tf.float64) * tf.sqrt(second) / first, tf.float32),
        beta1=beta1,
        beta2=beta2,
        epsilon=tf.cast(spec.eps * tf.sqrt(second), tf.float32),
        grad=g,
    )


def _adamw(spec: OptimizerSpec, w: Any, g: Any, slots: Slots, rate: Any, decay: float, step: Any) -> None:
    if decay:
        w.assign(w * (1 - rate * decay))
    _adam(spec, w, g, slots, rate, 0.0, step)


def _rmsprop(spec: OptimizerSpec, w: Any, g: Any, slots: Slots, rate: Any, decay: float, step: Any) -> None:
    g = _decayed(w, g, decay)
    square = slots["square"].assign(spec.rho * slots["square"] + (1 - spec.rho) * tf.square(g))
    move = g / (tf.sqrt(square) + spec.eps)
    if "velocity" in slots:
        move = slots["velocity"].assign(spec.momentum * slots["velocity"] + move)
    w.assign_sub(rate * move)


RULES: dict[str, Rule] = {
    "sgd": Rule(("velocity",), _sgd),
    "adam": Rule(("mean", "square"), _adam),
    "adamw": Rule(("mean", "square"), _adamw),
    "rmsprop": Rule(("square", "velocity"), _rmsprop),
}
