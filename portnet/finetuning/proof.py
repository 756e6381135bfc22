"""The proof of frozenness: what a phase of training freezes hashes the same before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portnet.errors import InputError, TrainingError
from portnet.finetuning.freeze import FreezePolicy
from portnet.finetuning.freeze_table import FreezeTable
from portnet.graph.digests import Digests

__all__ = ["Proofs"]


class Proofs:
    """Digests of frozen weights and statistics, of the whole run and of each of its phases.

    Args:
        tables: the resolved policy of each phase.
        phases: first epoch, from 0, and policy of each.
        original: of the network's weights before the run.
    """

    def __init__(self, tables: list[FreezeTable], phases: list[tuple[int, FreezePolicy]], original: Digests) -> None:
        self._tables, self._phases = tables, phases
        self._always = sorted(set.intersection(*(set(table.frozen) for table in tables)))
        self._before = original.of(self._always)
        self._entries: list[dict[str, Any]] = []

    def enter(self, phase: int, weights: Digests) -> None:
        """A phase begins with these weights, and the one before it ends; nothing changes if it is in hand already."""
        while len(self._entries) <= phase:
            self.leave(weights)
            index = len(self._entries)
            first, policy = self._phases[index]
            frozen = self._tables[index].frozen
            self._entries.append(
                {
                    "from_epoch": first + 1,
                    "policy": policy.text,
                    "frozen_initializers": len(frozen),
                    # one phase is the whole run, which need not be read twice
                    "sha256_before": self._before if len(self._tables) == 1 else weights.of(frozen),
                    "sha256_after": "",
                }
            )

    def leave(self, weights: Digests) -> None:
        """The phase in hand ends with these weights.

        Raises:
            TrainingError: something frozen has moved.
        """
        if self._entries:
            entry = self._entries[-1]
            entry["sha256_after"] = weights.of(self._tables[len(self._entries) - 1].frozen)
            _compare(entry["sha256_before"], entry["sha256_after"])

    def record(self, weights: Digests) -> dict[str, Any]:
        """Close the run with these weights; return the proof as it is written into the record.

        Raises:
            TrainingError: something frozen has moved.
        """
        if len(self._tables) > 1:
            self.leave(weights)
        after = weights.of(self._always)
        _compare(self._before, after)
        whole = {"frozen_initializers": len(self._always), "sha256_before": self._before, "sha256_after": after}
        return whole if len(self._tables) == 1 else {**whole, "phases": self._entries}

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data for a checkpoint."""
        return {"before": self._before, "phases": self._entries}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_dict` returned.

        Raises:
            InputError: the network the run began with is not this one.
        """
        if state["before"] != self._before:
            raise InputError(
                "resume: the backbone's weights are not those the run began with. Restore them, or start a new run."
            )
        self._entries = [dict(entry) for entry in state["phases"]]


def _compare(before: str, after: str) -> None:
    if before != after:
        raise TrainingError(f"frozen weights moved: digest was {before[:16]}…, is {after[:16]}…. This is a bug.")
