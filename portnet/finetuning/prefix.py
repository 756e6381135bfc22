"""The frozen prefix: what training never changes runs once, and only the rest is trained.

The frozen part of a network is a function of the data alone. The graph is cut at the freeze frontier, the
prefix runs once over all images (in onnxruntime, which folds BatchNormalization), its activations are kept,
and each epoch reads them instead of the images. Losses equal those of the uncut run but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.data.loader import Loader
from portnet.finetuning.freeze import FreezeTable
from portnet.graph.cut import cut
from portnet.graph.model import Model
from portnet.graph.parameters import Role

__all__ = ["CachedBatches", "frontier", "run_prefix", "split_at"]

# nodes whose result is not a function of their inputs
_RANDOM = {
    "Dropout",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}


def frontier(model: Model, table: FreezeTable) -> str | None:
    """Return the last tensor that training cannot change and that all that trains depends on alone.

    None when there is no such tensor but the input: nothing before the first trained layer does any work.
    """
    moving = {name for name, plan in table.parameters.items() if plan.trainable}
    moving |= {name for name, role in model.roles.items() if role is Role.STATISTIC} - table.frozen_statistics
    fixed: set[ir.Value] = set(model.ir.graph.inputs)
    fixed |= {value for name, value in model.ir.graph.initializers.items() if name not in moving}
    candidates: list[ir.Value] = []
    for node in model.ir.graph:
        if (
            node.op_type in _RANDOM
            or node.attributes.get("body")
            or not all(v is None or v in fixed for v in node.inputs)
        ):
            continue
        fixed.update(node.outputs)
        candidates += [value for value in node.outputs[:1] if value.name]
    return next((value.name for value in reversed(candidates) if _dominates(model, value)), None)


def _dominates(model: Model, value: ir.Value) -> bool:
    """Whether the outputs can be computed from ``value`` and initializers alone."""
    pending, seen = list(model.ir.graph.outputs), {value}
    while pending:
        current = pending.pop()
        if current in seen or current.is_initializer():
            continue
        seen.add(current)
        producer = current.producer()
        if producer is None:
            return False
        pending += [source for source in producer.inputs if source is not None]
    return value not in model.ir.graph.outputs


def split_at(model: Model, tensor: str) -> tuple[Model, Model]:
    """Return (prefix, suffix): the network up to ``tensor``, and from it on."""
    return cut(model, outputs=[tensor]), cut(model, inputs=[tensor], outputs=[port.name for port in model.outputs])


class CachedBatches:
    """The batches of a `Loader`, in its own order, with a prefix's activations in place of the images.

    Attributes:
        features: float32 (images, ...), in the order of the dataset.
    """

    def __init__(self, loader: Loader, features: np.ndarray) -> None:
        self._loader = loader
        self.features = features

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (activations, labels) of an epoch from a batch on."""
        order, size = self._loader.order(epoch), self._loader.batch_size
        for batch in range(start_batch, len(self._loader)):
            chosen = order[batch * size : (batch + 1) * size]
            yield self.features[chosen], self._loader.dataset.labels[chosen]


def run_prefix(network: Any, loader: Loader, limit: int, done: Any = None) -> np.ndarray | None:
    """Run a prefix once over all images of a loader that does not shuffle.

    Args:
        network: the prefix, with ``predict`` (float32 NCHW in, activations out).
        loader: images in the dataset's order.
        limit: most bytes that the activations may take.
        done: called with the count of images after each batch.

    Returns:
        float32 (images, ...), or None when they would not fit into ``limit``.
    """
    features: np.ndarray | None = None
    start = 0
    for x, _ in loader.epoch(0):
        part = np.asarray(network(x))
        if features is None:
            shape = (len(loader.dataset), *part.shape[1:])
            if int(np.prod(shape)) * part.itemsize > limit:
                return None
            features = np.empty(shape, part.dtype)
        features[start : start + len(part)] = part
        start += len(part)
        if done:
            done(start)
    return features
