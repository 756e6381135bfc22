"""Learning-rate schedules, each a pure function of the step: a factor on the optimizer's rate.

They are `FACTORS`, with s the step from 0, S the steps of the run and w the steps of warm-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from portnet.errors import InputError, UnknownNameError

__all__ = ["FACTORS", "SCHEDULES", "WARM_UP", "Schedule"]

WARM_UP = "(s + 1) / w for s < w, then the schedule over the remaining S − w steps, p = (s − w) / (S − w)"
FACTORS: dict[str, str] = {
    "constant": "1",
    "step": "γ^⌊s / step_size⌋, s counted from the end of the warm-up",
    # Loshchilov & Hutter 2017, without restarts
    "cosine": "(1 + cos πp) / 2",
    # Smith & Topin 2018, in the numbers of PyTorch's OneCycleLR
    "one-cycle": "cosine from 1/25 up to 1 over the first 30%, then cosine down to 1/25 · 10⁻⁴",
}
SCHEDULES = tuple(FACTORS)
_NUMBERS: tuple[tuple[str, Any], ...] = (("step_size", int), ("gamma", float))


@dataclass(frozen=True)
class Schedule:
    """A schedule by its definition at the top of this module.

    Attributes:
        name: one of `SCHEDULES`.
        warmup: steps of linear warm-up.
        step_size: steps between drops, of ``step``.
        gamma: factor of a drop, of ``step``.
    """

    name: Literal["constant", "step", "cosine", "one-cycle"] = "constant"
    warmup: int = 0
    step_size: int = 1000
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise UnknownNameError("schedule", self.name, SCHEDULES)
        if self.warmup < 0 or self.step_size < 1 or not 0 < self.gamma < math.inf:
            raise InputError(
                f"schedule: got warmup {self.warmup}, step_size {self.step_size}, gamma {self.gamma}; "
                "expected ≥ 0, ≥ 1 and > 0"
            )

    @classmethod
    def parse(cls, text: str | Schedule, warmup: int = 0) -> Schedule:
        """Read ``constant``, ``cosine``, ``one-cycle``, ``step`` or ``step:SIZE`` or ``step:SIZE:GAMMA``.

        Args:
            text: the schedule; one that is a `Schedule` already brings its own warm-up.
            warmup: steps of warm-up.

        Raises:
            UnknownNameError: another schedule.
            InputError: numbers that are none, or for a schedule that has none.
        """
        if isinstance(text, Schedule):
            return text
        name, *numbers = text.split(":")
        if name not in SCHEDULES:
            raise UnknownNameError("schedule", name, SCHEDULES)
        try:
            options = {key: kind(n) for (key, kind), n in zip(_NUMBERS, numbers, strict=False)}
            if numbers and (name != "step" or len(numbers) > len(_NUMBERS)):
                raise ValueError
        except ValueError:
            raise InputError(f"schedule: got {text!r}, expected e.g. cosine, or step:100:0.1") from None
        return cls(name, warmup, **options)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        """The schedule but for its warm-up, as `parse` reads it."""
        return f"step:{self.step_size}:{self.gamma!r}" if self.name == "step" else self.name

    def factor(self, step: int, total: int) -> float:
        """Return the factor on the learning rate at ``step`` (from 0) of ``total``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        step, total = step - self.warmup, max(total - self.warmup, 1)
        if self.name == "step":
            return self.gamma ** (step // self.step_size)
        if self.name == "cosine":
            return _cosine(1.0, 0.0, step / total)
        if self.name == "one-cycle":
            return _one_cycle(step / total)
        return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _one_cycle(progress: float, peak: float = 0.3, start: float = 1 / 25, end: float = 1 / 25 * 1e-4) -> float:
    if progress < peak:
        return _cosine(start, 1.0, progress / peak)
    return _cosine(1.0, end, (progress - peak) / (1 - peak))
