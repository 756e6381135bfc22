"""`MatchReport`: which array of a file went onto which initializer, by which rule, and what was left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Fit", "Leftover", "Match", "MatchReport"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """One array and where it went.

    Attributes:
        target: the network's initializer.
        shape: its shape.
        source: the file's name of the array; "" where the file has none and a value that changes nothing was taken.
        source_shape: the array's shape in the file.
        rule: how it was found: "name", "prefix", "convention", "graph", "order" or "absent".
        note: what was done to it besides: another order of axes, a bias taken off a mean.
    """

    target: str
    shape: Shape
    source: str
    source_shape: Shape
    rule: str
    note: str = ""


@dataclass(frozen=True)
class Leftover:
    """An array that has no counterpart, and why that is right."""

    name: str
    shape: Shape
    why: str


@dataclass(frozen=True)
class MatchReport:
    """What became of a file's arrays.

    Attributes:
        network: the zoo's name.
        source: the file.
        way: how arrays and initializers were told apart, in one sentence.
        matches: in the network's order.
        unused: arrays of the file that went nowhere.
        unfilled: initializers that the file does not fill, and what they hold.
        notes: what the user must know, a sentence each.
    """

    network: str
    source: str
    way: str
    matches: tuple[Match, ...]
    unused: tuple[Leftover, ...] = ()
    unfilled: tuple[Leftover, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rules(self) -> dict[str, int]:
        """Count of matches by rule."""
        return dict(Counter(match.rule for match in self.matches))

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Yield (initializer, its shape, array, its shape, rule and note), leftovers of both sides last."""
        for match in self.matches:
            told = f"{match.rule}, {match.note}" if match.note else match.rule
            source = _sizes(match.source_shape) if match.source else ""
            yield match.target, _sizes(match.shape), match.source or "–", source, told
        for left in self.unfilled:
            yield left.name, _sizes(left.shape), "–", "", left.why
        for left in self.unused:
            yield "–", "", left.name, _sizes(left.shape), left.why

    def __str__(self) -> str:
        counts = ", ".join(f"{count} by {rule}" for rule, count in self.rules.items())
        lines = [f"{self.source} onto {self.network}: {counts}", self.way]
        if self.unfilled:
            lines.append(f"not filled: {', '.join(left.name for left in self.unfilled)} ({self.unfilled[0].why})")
        if self.unused:
            lines.append(f"not used: {_few([left.name for left in self.unused])} ({self.unused[0].why})")
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data for JSON."""
        return {
            "network": self.network,
            "source": self.source,
            "way": self.way,
            "rules": self.rules,
            "matches": [
                {
                    "initializer": match.target,
                    "shape": list(match.shape),
                    "array": match.source or None,
                    "array_shape": list(match.source_shape),
                    "rule": match.rule,
                    "note": match.note,
                }
                for match in self.matches
            ],
            "unused": [_plain(left) for left in self.unused],
            "unfilled": [_plain(left) for left in self.unfilled],
            "notes": list(self.notes),
        }

    def summary(self) -> dict[str, Any]:
        """Return what a network's provenance keeps of it: names that are alike on both sides are left out."""
        renamed = {match.target: match.source for match in self.matches if match.source != match.target}
        facts = {
            "way": self.way,
            "rules": self.rules,
            "arrays": renamed,
            "unused": [left.name for left in self.unused],
            "unfilled": [left.name for left in self.unfilled],
            "notes": list(self.notes),
        }
        return {key: value for key, value in facts.items() if value}


@dataclass(frozen=True)
class Fit:
    """Arrays that fit a network.

    Attributes:
        arrays: by initializer, in the initializer's layout, floats as float32.
        way: see `MatchReport`.
        matches: see `MatchReport`.
        unused: see `MatchReport`.
        notes: see `MatchReport`.
        epsilons: by name of a BatchNormalization node, what the file's network adds to its variance, where that is
            not the network's own.
    """

    arrays: Mapping[str, np.ndarray]
    way: str
    matches: tuple[Match, ...]
    unused: tuple[Leftover, ...] = ()
    notes: tuple[str, ...] = ()
    epsilons: Mapping[str, float] = field(default_factory=dict)


def _plain(left: Leftover) -> dict[str, Any]:
    return {"name": left.name, "shape": list(left.shape), "why": left.why}


def _sizes(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
