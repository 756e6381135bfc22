"""``backend="auto"``: one step on each installed engine, and the fastest takes the run.

Every engine gives the same losses, so the choice changes how long a run takes and nothing else.
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from portnet.adapter import Inputs, TrainPlan
from portnet.engines import engine, installed
from portnet.errors import PortNetError, UnsupportedError
from portnet.finetuning.memory import enough_memory
from portnet.finetuning.prefix.threads import few_threads
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model

__all__ = ["Timing", "choose", "time_engines"]

# steps before the first that counts (they compile, allocate, warm caches), most that count, and seconds for them
WARM_UP, MOST, SECONDS = 2, 7, 2.0


@dataclass(frozen=True)
class Timing:
    """How fast an engine takes a step.

    Attributes:
        engine: its name.
        milliseconds: median of a step; None where it cannot train this network here.
        images_per_second: of such steps.
        note: why not, else "".
    """

    engine: str
    milliseconds: float | None = None
    images_per_second: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.milliseconds is None or self.images_per_second is None:
            return f"{self.engine:<6}  {self.note}"
        return f"{self.engine:<6}  {self.milliseconds:9,.1f}  {self.images_per_second:8,.0f}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def time_engines(
    network: Model,
    plan: TrainPlan,
    batch: tuple[Inputs, np.ndarray],
    settings: Settings,
    reporter: Any,
    *,
    is_cut: bool,
) -> list[Timing]:
    """Time a training step on each installed engine and show it; the network itself is not changed.

    Args:
        network: what trains.
        plan: how.
        batch: inputs and targets of a step.
        settings: ``device`` and ``batch_size`` are used.
        reporter: is told.
        is_cut: whether it is what follows a kept frozen part, which may train on one thread.
    """
    reporter.note("engine  ms a step  images/s")
    timings = []
    for name in installed():
        try:
            timing = _time(name, network, plan, batch, settings, is_cut)
        except PortNetError as error:
            timing = Timing(name, note=str(error))
        reporter.note(str(timing))
        timings.append(timing)
    return timings


def choose(timings: list[Timing]) -> str:
    """Return the name of the fastest engine.

    Raises:
        UnsupportedError: none can train the network.
    """
    able = [(timing.milliseconds, timing.engine) for timing in timings if timing.milliseconds is not None]
    if not able:
        reasons = "; ".join(timing.note for timing in timings) or "none is installed: pip install 'portnet[torch]'"
        raise UnsupportedError(f"backend auto: no engine can train this network here: {reasons}")
    return min(able)[1]


def _time(
    name: str, network: Model, plan: TrainPlan, batch: tuple[Inputs, np.ndarray], settings: Settings, is_cut: bool
) -> Timing:
    adapter, device = engine(name), settings.device
    adapter.check_device(device)
    adapter.check_training(device, plan.precision, plan.compile)
    trainer = adapter.lower(network, device=device).trainer(plan)
    seconds: list[float] = []
    few = few_threads(adapter, network, settings.batch_size) if is_cut else nullcontext()
    with few, enough_memory(adapter, settings):
        for _ in range(WARM_UP):
            trainer.step(*batch)
        while len(seconds) < MOST and sum(seconds) < SECONDS:
            started = time.perf_counter()
            trainer.step(*batch)
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    return Timing(name, round(1000 * median, 3), round(len(batch[1]) / median, 1))
