"""`match_weights`: a file's weights onto a network of the zoo, and its own network's answers beside ours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnet.errors import ParityError
from portnet.graph.cut import cut
from portnet.graph.model import Model
from portnet.runtime.session import Session
from portnet.weights.report import MatchReport
from portnet.zoo.assemble import Assembled, assemble
from portnet.zoo.registry import entry

__all__ = ["Matched", "match_weights"]

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Matched:
    """A network with a file's weights.

    Attributes:
        model: the network.
        report: what went where.
        difference: largest difference from the file's own network in onnxruntime, over its largest answer; None where
            the file tells no network.
    """

    model: Model
    report: MatchReport
    difference: float | None = None

    def __str__(self) -> str:
        if self.difference is None:
            return f"{self.report}\nnot compared with the file's own network, which the file does not tell"
        return f"{self.report}\ncompared with the file's own network in onnxruntime: differs by {self.difference:.1e}"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data for JSON."""
        return {**self.report.to_dict(), "difference": self.difference, "classes": self.model.outputs[0].shape[-1]}  # type: ignore[index]


def match_weights(
    network: str, weights: str | os.PathLike[str], *, num_classes: int | None = None, backbone_only: bool = False
) -> Matched:
    """Load a file's weights onto a network of the zoo, and compare the two networks where the file tells its own.

    Args:
        network: its name.
        weights: see `portnet.zoo.load`, likewise the rest.

    Raises:
        ParityError: the file's network answers otherwise.
        PortNetError: see `portnet.zoo.load`.
    """
    built = assemble(entry(network), weights, num_classes, backbone_only=backbone_only)
    assert built.report is not None
    difference = _difference(built, entry(network).feature if backbone_only else "logits")
    if difference is not None and not difference <= TOLERANCE:
        raise ParityError(
            f"{weights} onto {network}: got answers that differ by {difference:.1e} of the largest, expected at most "
            f"{TOLERANCE:g}"
        )
    return Matched(built.model, built.report, difference)


def _difference(built: Assembled, ending: str) -> float | None:
    theirs = None if built.given is None else built.given.model
    if theirs is None:
        return None
    sizes = [size if isinstance(size, int) else 1 for size in built.model.inputs[0].shape or ()]
    given = theirs.inputs[0].shape or ()
    sizes[0] = given[0] if given and isinstance(given[0], int) else 2
    image = np.random.default_rng(0).standard_normal(sizes, np.float32)
    ours = Session(cut(built.model, outputs=[ending]), provider="cpu").run({built.model.inputs[0].name: image})
    other = Session(cut(theirs, outputs=[built.tensor]), provider="cpu").run({theirs.inputs[0].name: image})
    got, expected = (next(iter(answers.values())) for answers in (ours, other))
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(got.reshape(expected.shape) - expected).max()) / scale
