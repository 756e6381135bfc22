"""Runs side by side: what differs in how they were made, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portnet.errors import InputError
from portnet.finetuning.run import Run

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Several runs; every list has an entry a run.

    Attributes:
        names: what the runs are called.
        differences: settings, data and versions that are not the same in all runs, by dotted name.
        results: what came of them, by name; None where a run has no such number.
    """

    names: tuple[str, ...]
    differences: dict[str, list[Any]]
    results: dict[str, list[float | int | str | None]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"runs": list(self.names), "differences": self.differences, "results": self.results}


def compare(runs: Mapping[str, Run]) -> Comparison:
    """Compare runs by name.

    Raises:
        InputError: fewer than two runs.
    """
    if len(runs) < 2:
        raise InputError(f"compare: got {len(runs)} run, expected two or more different ones")
    facts = [_facts(run) for run in runs.values()]
    results = [_results(run) for run in runs.values()]
    return Comparison(tuple(runs), _differing(facts), {name: [each[name] for each in results] for name in results[0]})


def _differing(facts: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for each in facts for name in each)
    columns = {name: [each.get(name) for each in facts] for name in names}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def _facts(run: Run) -> dict[str, Any]:
    """Return everything that may make runs differ: settings, data, versions."""
    data = run.record["data"]
    return {
        **_flat(run.settings.to_dict()),
        "data.source": data["source"],
        "data.digest": data["digest"],
        "data.classes": len(data["classes"]),
        "data.decoder": data.get("decoder"),
        **{f"environment.{name}": value for name, value in run.record["environment"].items()},
    }


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _results(run: Run) -> dict[str, float | int | str | None]:
    last = run.history[-1] if len(run.history) else None
    # where the best weights were restored, it is these that the run left
    kept = run.record.get("best") or {}
    accuracies = [epoch.val_accuracy for epoch in run.history if epoch.val_accuracy is not None]
    proof = run.record.get("frozen_proof") or {}
    return {
        "epochs": len(run.history),
        "loss": last.loss if last else None,
        "accuracy": last.accuracy if last else None,
        "val loss": kept.get("loss", last.val_loss if last else None),
        "val accuracy": kept.get("accuracy", last.val_accuracy if last else None),
        "best val accuracy": max(accuracies, default=None),
        "test accuracy": (run.test or {}).get("accuracy"),
        "seconds": round(sum(epoch.seconds for epoch in run.history), 3),
        "images a second": round(last.images_per_second, 1) if last else None,
        "parameters that train": sum(
            int(row["parameters"].replace(",", ""))
            for row in run.record["policy"]
            if row["trainable"].startswith("yes")
        ),
        "frozen arrays": proof.get("frozen_initializers"),
    }
