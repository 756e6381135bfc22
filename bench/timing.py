"""Two ways of doing the same, timed in turns so that both meet the same weather."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Action", "Budget", "Comparison", "Sample", "clocked", "interleaved"]

Action = Callable[[], Any]
WARM_UPS = 2


class Sample(NamedTuple):
    """Seconds of one call: wall clock, and processor time of all threads of the process."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Budget:
    """How long to measure: at least ``least`` rounds, then until ``seconds`` are over or ``most`` are done."""

    least: int = 7
    most: int = 40
    seconds: float = 30.0


@dataclass(frozen=True)
class Comparison:
    """The samples of both sides, in order."""

    ours: list[Sample]
    theirs: list[Sample]

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a `bench.row.Row`: medians in ms, ratio of medians, quartiles of the rounds' ratios."""
        ours, theirs = (statistics.median(each.wall for each in side) for side in (self.ours, self.theirs))
        ratios = [a.wall / b.wall for a, b in zip(self.ours, self.theirs, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        cpu, their_cpu = (statistics.median(each.cpu for each in side) for side in (self.ours, self.theirs))
        return {
            "ours": ours * 1e3,
            "theirs": theirs * 1e3,
            "score": ours / theirs,
            "spread": (low, high),
            "rounds": len(ratios),
            "extra": {"processor ms": cpu * 1e3, "processor ms of the other": their_cpu * 1e3},
        }


def interleaved(ours: Callable[[], Sample], theirs: Callable[[], Sample], budget: Budget) -> Comparison:
    """Call both in turns, ABAB, after two calls of each that do not count."""
    for _ in range(WARM_UPS):
        ours()
        theirs()
    result = Comparison([], [])
    start = time.perf_counter()
    while not _is_over(len(result.ours), time.perf_counter() - start, budget):
        result.ours.append(ours())
        result.theirs.append(theirs())
    return result


def clocked(action: Action) -> Callable[[], Sample]:
    """Return a function that calls ``action`` in this process and times it."""

    def call() -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        return Sample(time.perf_counter() - wall, time.process_time() - cpu)

    return call


def _is_over(rounds: int, elapsed: float, budget: Budget) -> bool:
    return rounds >= budget.most or (rounds >= budget.least and elapsed >= budget.seconds)
