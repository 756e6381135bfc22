"""One line of the tables: a measurement, what it is held against, and the aim."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        section: "step", "inference", "imports", "convert", "converted inference", "torch.compile", "memory",
            "loading", "loop", "frozen", "accuracy" or "head step".
        subject: network, file or command that is measured.
        engine: "torch", "keras", "gluon", or "" where none takes part.
        against: what it is compared with.
        unit: of ``ours`` and ``theirs``.
        ours: median of PortNet.
        theirs: median of the other, None where there is none.
        score: the figure that the aim is about.
        kind: what the score is: "ratio" (ours / theirs), "ms over", "modules", "× weights", "max abs",
            "points" (of accuracy, apart).
        spread: first and third quartile of the score over the rounds.
        aim: largest score that is wanted, None where no aim was set.
        rounds: count of measurements of each side.
        note: what a reader must know to judge the row, or why there is no figure.
        extra: figures for the record alone.
        context: size of the run: threads, batch, pixels.
        measured: day, as in 2026-01-31.
    """

    section: str
    subject: str
    engine: str = ""
    against: str = ""
    unit: str = "ms"
    ours: float | None = None
    theirs: float | None = None
    score: float | None = None
    kind: str = "ratio"
    spread: tuple[float, float] | None = None
    aim: float | None = None
    rounds: int = 0
    note: str = ""
    extra: dict[str, float] | None = None
    context: dict[str, Any] | None = None
    measured: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What a later measurement of the same thing has in common with this one."""
        return self.section, self.subject, self.engine, self.against

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without an aim or a score."""
        return None if self.aim is None or self.score is None else self.score <= self.aim

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Row:
        """Return the row that `to_dict` gave."""
        spread = fields.get("spread")
        return cls(**{**fields, "spread": None if spread is None else tuple(spread)})
