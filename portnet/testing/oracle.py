"""The definitions of `portnet.adapter` in float64 numpy, written apart from every engine.

Formulas: softmax cross-entropy with label smoothing (Szegedy et al. 2016), the update rules at the top of
`portnet.adapter`, BatchNormalization of ONNX opset 15 in training mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan

__all__ = [
    "Arrays",
    "Optimizer",
    "batch_norm",
    "clipped",
    "cross_entropy",
    "finite_differences",
    "mlp_forward",
    "mlp_gradients",
]

Arrays = dict[str, np.ndarray]


def cross_entropy(logits: np.ndarray, y: np.ndarray, plan: TrainPlan) -> tuple[float, np.ndarray]:
    """Return the loss that ``plan`` defines and its gradient by the logits.

    Args:
        logits: (N, classes).
        y: (N,) class indices, or (N, classes) distributions.
        plan: its ``label_smoothing`` and ``class_weights`` count.
    """
    classes = logits.shape[1]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    given = np.eye(classes)[y] if y.ndim == 1 else y.astype(np.float64)
    target = (1 - plan.label_smoothing) * given + plan.label_smoothing / classes
    weight = np.ones(len(y)) if plan.class_weights is None else given @ np.asarray(plan.class_weights)
    share = (weight / weight.sum())[:, None]
    return float(-(share * target * log_p).sum()), share * (np.exp(log_p) - target)


def mlp_forward(weights: Arrays, x: np.ndarray) -> np.ndarray:
    """Return the logits of `portnet.testing.networks.mlp`: Gemm, Relu, Gemm."""
    hidden = np.maximum(x @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
    return hidden @ weights["head.weight"].T + weights["head.bias"]


def mlp_gradients(weights: Arrays, x: np.ndarray, y: np.ndarray, plan: TrainPlan) -> tuple[float, Arrays]:
    """Return loss and gradients of `portnet.testing.networks.mlp` by hand-written backpropagation."""
    before = x @ weights["hidden.weight"].T + weights["hidden.bias"]
    hidden = np.maximum(before, 0)
    loss, by_logits = cross_entropy(hidden @ weights["head.weight"].T + weights["head.bias"], y, plan)
    by_before = (by_logits @ weights["head.weight"]) * (before > 0)
    gradients = {
        "hidden.weight": by_before.T @ x,
        "hidden.bias": by_before.sum(axis=0),
        "head.weight": by_logits.T @ hidden,
        "head.bias": by_logits.sum(axis=0),
    }
    return loss, gradients


def clipped(gradients: Arrays, clip_norm: float | None) -> Arrays:
    """Scale gradients so that their common 2-norm is at most ``clip_norm``."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    if clip_norm is None or norm <= clip_norm:
        return gradients
    return {name: g * (clip_norm / norm) for name, g in gradients.items()}


def batch_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Normalise (N, C, ...) by the batch's own mean and biased variance."""
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x - mean) / np.sqrt(variance + eps) * scale.reshape(shape) + bias.reshape(shape)


def finite_differences(loss: Callable[[Arrays], float], weights: Arrays, name: str, places: list[int]) -> np.ndarray:
    """Return d loss / d weights[name] at flat ``places``, by central differences in float64."""
    step = 1e-5
    found = []
    for place in places:
        ends = []
        for sign in (1, -1):
            moved = {key: array.copy() for key, array in weights.items()}
            moved[name].reshape(-1)[place] += sign * step
            ends.append(loss(moved))
        found.append((ends[0] - ends[1]) / (2 * step))
    return np.array(found)


class Optimizer:
    """The update rules, one state for each parameter.

    Args:
        spec: the rule and its numbers.
        parameters: plan of each parameter; those that are not trainable are left alone.
    """

    def __init__(self, spec: OptimizerSpec, parameters: Mapping[str, ParameterPlan]) -> None:
        self.spec, self.parameters, self.lr, self.t = spec, parameters, spec.lr, 0
        self._first: Arrays = {}
        self._second: Arrays = {}

    def step(self, weights: Arrays, gradients: Arrays) -> Arrays:
        """Return the weights after one step."""
        self.t += 1
        rule = {"sgd": self._sgd, "adam": self._adam, "adamw": self._adamw, "rmsprop": self._rmsprop}[self.spec.name]
        return {name: rule(name, w, gradients[name]) if self._moves(name) else w for name, w in weights.items()}

    def _moves(self, name: str) -> bool:
        return name in self.parameters and self.parameters[name].trainable

    def _rate(self, name: str) -> float:
        return self.lr * self.parameters[name].lr_mult

    def _decay(self, name: str) -> float:
        return self.spec.weight_decay if self.parameters[name].decay else 0.0

    def _sgd(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        g = g + self._decay(name) * w
        v = self._first[name] = self.spec.momentum * self._first.get(name, 0) + g
        return w - self._rate(name) * (g + self.spec.momentum * v if self.spec.nesterov else v)

    def _adam(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self._adam_step(name, w, g + self._decay(name) * w)

    def _adamw(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self._adam_step(name, w * (1 - self._rate(name) * self._decay(name)), g)

    def _adam_step(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        b1, b2 = self.spec.betas
        m = self._first[name] = b1 * self._first.get(name, 0) + (1 - b1) * g
        s = self._second[name] = b2 * self._second.get(name, 0) + (1 - b2) * g**2
        return w - self._rate(name) * (m / (1 - b1**self.t)) / (np.sqrt(s / (1 - b2**self.t)) + self.spec.eps)

    def _rmsprop(self, name: str, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        g = g + self._decay(name) * w
        s = self._second[name] = self.spec.rho * self._second.get(name, 0) + (1 - self.spec.rho) * g**2
        move = g / (np.sqrt(s) + self.spec.eps)
        v = self._first[name] = self.spec.momentum * self._first.get(name, 0) + move
        return w - self._rate(name) * v
