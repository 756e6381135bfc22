"""A run's record: everything that someone else needs to repeat it, and what came of it, as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from portnet.adapter import Adapter
from portnet.finetuning.environment import environment
from portnet.finetuning.freeze_table import FreezeTable
from portnet.finetuning.history import History
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model

__all__ = ["run_record"]

_POLICY_COLUMNS = ("index", "layer", "stage", "parameters", "trainable", "lr_mult")


def run_record(
    settings: Settings,
    adapter: Adapter,
    network: Model,
    table: FreezeTable,
    data: dict[str, Any],
    history: History,
    proof: dict[str, Any],
    ended: str,
    cache: dict[str, Any] | None,
    engines: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    """Return the record.

    Args:
        settings: the run's.
        adapter: of its engine.
        network: backbone and head.
        table: the resolved policy.
        data: where the images came from, and their digest.
        history: of the run so far.
        proof: that what is frozen did not move; {} as long as it may.
        ended: "finished", "stopped early", "interrupted", "failed: ..." or, while it trains, "".
        cache: where the frozen part was cut off and its activations kept, or None where the whole network ran.
        engines: how fast each engine was, where the fastest was chosen.
    """
    return {
        "schema": 1,
        "settings": settings.to_dict(),
        "environment": environment(adapter),
        "engines": engines,
        "data": data,
        "backbone_provenance": dict(network.metadata.provenance),
        "preprocessing": asdict(network.preprocessing) if network.preprocessing else None,
        "policy": [dict(zip(_POLICY_COLUMNS, row, strict=True)) for row in table.as_rows()],
        "frozen_proof": proof,
        "cache": cache,
        "history": history.to_dict(),
        "best": asdict(history.best) if history.best and settings.early_stop is not None else None,
        "ended": ended,
        "interrupted": ended == "interrupted" or ended.startswith("failed"),
    }
