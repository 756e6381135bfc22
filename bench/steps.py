"""One training step and one inference batch of a zoo network: lowered, against the framework's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.references import OFFERS, Offer
from bench.row import Row
from bench.side import Process
from bench.timing import Budget, interleaved

__all__ = ["AIMS", "rows"]

# largest ratio wanted: torch's own loop does not run channels last
AIMS = {"torch": 0.8, "keras": 1.02, "gluon": 1.02}


def rows(
    engine: str,
    network: str,
    sections: Sequence[str],
    *,
    count: int,
    size: int,
    budget: Budget,
    threads: int | None,
) -> list[Row]:
    """Return a row for each reference and each of ``sections`` ("inference", "step"; in this order)."""
    job = {"engine": engine, "network": network, "count": count, "size": size}
    offers = [(index, offer) for index, offer in enumerate(OFFERS[engine]) if network in offer.networks]
    found: list[Row] = []
    for index, offer in offers:
        with (
            Process("bench.side", {**job, "reference": None}, threads=threads) as ours,
            Process("bench.side", {**job, "reference": index}, threads=threads) as theirs,
        ):
            found += _compared(engine, network, offer, sections, ours, theirs, budget)
    return found


def _compared(
    engine: str, network: str, offer: Offer, sections: Sequence[str], ours: Process, theirs: Process, budget: Budget
) -> Iterator[Row]:
    for section in sections:
        times = interleaved(lambda name=section: ours.ask(name), lambda name=section: theirs.ask(name), budget)
        note = offer.notes.get(network, "")
        yield Row(section, network, engine, offer.name, aim=AIMS[engine], note=note, **times.fields)
