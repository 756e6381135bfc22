"""One training step and one inference batch of a zoo network: lowered, against the framework's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.networks import Batch, batch_of, lowered, trainer
from bench.references import Reference, references
from bench.row import Row
from bench.timing import Budget, interleaved
from portnet import engine
from portnet.adapter import Lowered

__all__ = ["AIMS", "run"]

# largest ratio wanted: torch's own loop does not run channels last
AIMS = {"torch": 0.8, "keras": 1.02, "gluon": 1.02}


def run(
    *, engine_name: str, network: str, sections: list[str], count: int, size: int, budget: dict[str, Any]
) -> list[Row]:
    """Return a row for each reference and each of ``sections`` ("step", "inference")."""
    batch = batch_of(count, size)
    ours = lowered(engine(engine_name), network, batch)
    rows = []
    for section in sections:
        # statistics come from the batch in training: inference is timed first, before they drift
        for reference in references(engine_name, network, size):
            fields = _SECTIONS[section](ours, reference, batch, Budget(**budget))
            rows.append(
                Row(section, network, engine_name, reference.name, aim=AIMS[engine_name], note=reference.note, **fields)
            )
    return rows


def _inference(ours: Lowered, reference: Reference, batch: Batch, budget: Budget) -> dict[str, Any]:
    x = reference.layout(batch.x)
    return interleaved(lambda: ours.predict(batch.x), lambda: reference.predict(x), budget).fields


def _step(ours: Lowered, reference: Reference, batch: Batch, budget: Budget) -> dict[str, Any]:
    x, training = reference.layout(batch.x), trainer(ours)
    return interleaved(lambda: training.step(batch.x, batch.y).loss, lambda: reference.step(x, batch.y), budget).fields


_SECTIONS: dict[str, Callable[[Lowered, Reference, Batch, Budget], dict[str, Any]]] = {
    "inference": _inference,
    "step": _step,
}
