"""A run's record: everything that someone else needs to repeat it, and what came of it, as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from portnet.adapter.training import RULES
from portnet.finetuning.freeze_table import FreezeTable
from portnet.finetuning.history import History
from portnet.finetuning.recipe import recipe
from portnet.finetuning.schedule import FACTORS, WARM_UP
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model

__all__ = ["run_record"]

_POLICY_COLUMNS = ("index", "layer", "stage", "parameters", "trainable", "lr_mult")


def run_record(
    settings: Settings,
    network: Model,
    table: FreezeTable,
    history: History,
    *,
    environment: dict[str, str],
    origin: dict[str, str],
    resumed: list[dict[str, Any]],
    data: dict[str, Any],
    weights: dict[str, str | None],
    proof: dict[str, Any],
    ended: str,
    cache: dict[str, Any] | None,
    engines: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    """Return the record.

    Args:
        settings: the run's.
        network: backbone and head.
        table: the resolved policy.
        history: of the run so far.
        environment: it began in.
        origin: command, folder and time it began with.
        resumed: after how many steps it was resumed, each time, and what had changed in the environment.
        data: where the images came from, and their digest.
        weights: digests of all weights: "sha256_start", and "sha256_end" once it has ended.
        proof: that what is frozen did not move; {} as long as it may.
        ended: "finished", "stopped early", "interrupted", "failed: ..." or, while it trains, "".
        cache: where the frozen part was cut off and its activations kept, or None where the whole network ran.
        engines: how fast each engine was, where the fastest was chosen.
    """
    return {
        "schema": 1,
        "settings": settings.to_dict(),
        "call": recipe(settings, data["source"]),
        "definitions": {
            "optimizer": RULES[settings.optimizer.name],
            "schedule": FACTORS[settings.schedule.name],
            **({"warm-up": WARM_UP} if settings.schedule.warmup else {}),
        },
        "origin": origin,
        "environment": environment,
        "resumed": resumed,
        "engines": engines,
        "data": data,
        "weights": weights,
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
