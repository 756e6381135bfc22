"""Two ways of doing the same, timed in turns so that both meet the same weather."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Budget", "Comparison", "interleaved"]

Action = Callable[[], Any]
WARM_UPS = 2


@dataclass(frozen=True)
class Budget:
    """How long to measure: at least ``least`` rounds, then until ``seconds`` are over or ``most`` are done."""

    least: int = 7
    most: int = 40
    seconds: float = 30.0


@dataclass(frozen=True)
class Comparison:
    """Seconds of each call of both sides, wall clock and processor time of the whole process, in order."""

    ours: list[float]
    theirs: list[float]
    ours_cpu: list[float]
    theirs_cpu: list[float]

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a `bench.row.Row`: medians in ms, ratio of medians, quartiles of the rounds' ratios."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return {
            "ours": ours * 1e3,
            "theirs": theirs * 1e3,
            "score": ours / theirs,
            "spread": (low, high),
            "rounds": len(ratios),
            "extra": {
                "ratio of minima": min(self.ours) / min(self.theirs),
                "ratio of medians of processor time": statistics.median(self.ours_cpu)
                / max(statistics.median(self.theirs_cpu), 1e-9),
            },
        }


def interleaved(ours: Action, theirs: Action, budget: Budget) -> Comparison:
    """Call both in turns, ABAB, after two calls of each that do not count."""
    for _ in range(WARM_UPS):
        ours()
        theirs()
    gc.collect()
    result = Comparison([], [], [], [])
    start = time.perf_counter()
    while not _is_over(len(result.ours), time.perf_counter() - start, budget):
        _clock(ours, result.ours, result.ours_cpu)
        _clock(theirs, result.theirs, result.theirs_cpu)
    return result


def _is_over(rounds: int, elapsed: float, budget: Budget) -> bool:
    return rounds >= budget.most or (rounds >= budget.least and elapsed >= budget.seconds)


def _clock(action: Action, wall: list[float], cpu: list[float]) -> None:
    before, cpu_before = time.perf_counter(), time.process_time()
    action()
    wall.append(time.perf_counter() - before)
    cpu.append(time.process_time() - cpu_before)
