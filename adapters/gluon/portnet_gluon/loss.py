"""Softmax cross-entropy as the core defines it, and the count of right answers, as symbols."""

from __future__ import annotations

from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol

__all__ = ["CLASS_WEIGHTS", "LABELS", "label_type", "loss_and_hits"]

LABELS = "portnet.labels"
CLASS_WEIGHTS = "portnet.class_weights"


def label_type(soft: bool) -> str:
    """Return the dtype of the variable `LABELS`: class indices, or ``soft`` distributions over the classes."""
    return "float32" if soft else "int64"


def loss_and_hits(logits: Symbol, smoothing: float, weighted: bool, soft: bool = False) -> list[Symbol]:
    """Return the loss, shape (1,), and what a step reports in one array: the loss and the number of hits, shape (2,).

    A hit is a row whose largest logit is the label's, or the largest target's.

    Args:
        logits: shape (N, classes).
        smoothing: ε: the target is (1−ε) · onehot + ε / classes.
        weighted: take the mean weighted by the variable `CLASS_WEIGHTS`, shape (classes,), at the label.
        soft: the labels are distributions, shape (N, classes), in place of indices, shape (N,).
    """
    labels = mx.sym.var(LABELS, dtype=label_type(soft))
    logs = mx.sym.log_softmax(logits, axis=-1)
    losses = -(mx.sym.sum(logs * labels, axis=-1) if soft else mx.sym.pick(logs, labels, axis=-1))
    if smoothing:
        losses = losses * (1 - smoothing) - mx.sym.mean(logs, axis=-1) * smoothing
    truth = mx.sym.argmax(labels, axis=-1) if soft else mx.sym.cast(labels, dtype="float32")
    hits = mx.sym.argmax(mx.sym.BlockGrad(logits), axis=-1) == truth
    loss = mx.sym.reshape(_mean(losses, labels, weighted, soft), shape=(1,))
    return [loss, mx.sym.concat(mx.sym.BlockGrad(loss), mx.sym.reshape(mx.sym.sum(hits), shape=(1,)), dim=0)]


def _mean(losses: Symbol, labels: Symbol, weighted: bool, soft: bool) -> Symbol:
    if not weighted:
        return mx.sym.mean(losses)
    by_class = mx.sym.var(CLASS_WEIGHTS, dtype="float32")
    weights = mx.sym.dot(labels, by_class) if soft else mx.sym.take(by_class, labels)
    return mx.sym.broadcast_div(mx.sym.sum(losses * weights), mx.sym.sum(weights))
