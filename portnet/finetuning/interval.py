"""How often something happens during a run, as people write it: ``5``, ``"5 steps"``, ``"2 epochs"``, ``"30 s"``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from portnet.errors import InputError

__all__ = ["Interval"]

Unit = Literal["steps", "epochs", "seconds"]
_UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(("", "step", "steps", "iteration", "iterations"), ("steps", 1.0)),
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1.0)),
    **dict.fromkeys(("s", "second", "seconds"), ("seconds", 1.0)),
    **dict.fromkeys(("min", "minute", "minutes"), ("seconds", 60.0)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600.0)),
}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


@dataclass(frozen=True)
class Interval:
    """A count of steps, epochs or seconds.

    >>> str(Interval.parse("10 min")), str(Interval.parse(5)), str(Interval.parse("1 epoch"))
    ('600 seconds', '5 steps', '1 epoch')

    Attributes:
        count: how many; a whole number of steps or epochs.
        unit: of what.
    """

    count: float
    unit: Unit

    @classmethod
    def parse(cls, text: int | float | str | Interval, name: str = "interval") -> Interval:
        """Read a count of steps, or a text with a unit.

        Args:
            text: what was given.
            name: what an error calls it.

        Raises:
            InputError: it is no such text, not above 0, or a part of a step or an epoch.
        """
        if isinstance(text, Interval):
            return text
        found = _TEXT.fullmatch(str(text).lower())
        unit, factor = _UNITS.get(found[2], (None, 0.0)) if found else (None, 0.0)
        count = float(found[1]) * factor if found else 0.0
        if unit is None or not 0 < count < math.inf or (unit != "seconds" and count != int(count)):
            raise InputError(f"{name}: got {text!r}, expected e.g. 5, '5 steps', '2 epochs' or '30 s'")
        return cls(count, unit)

    def __str__(self) -> str:
        return f"{self.count:g} {self.unit[:-1] if self.count == 1 else self.unit}"

    def after_step(self, step: int) -> bool:
        """Whether it is due after ``step`` steps of the run."""
        return self.unit == "steps" and step % int(self.count) == 0

    def steps_until(self, step: int) -> float:
        """Return how many steps after ``step`` it is due; infinity where it is not steps that count."""
        return self.count - step % self.count if self.unit == "steps" else math.inf

    def after_epoch(self, epoch: int) -> bool:
        """Whether it is due after ``epoch`` epochs of the run."""
        return self.unit == "epochs" and epoch % int(self.count) == 0
