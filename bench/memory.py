"""Peak memory of converting a file of a given size, in a fresh process for each engine."""

from __future__ import annotations

import resource
from pathlib import Path

from bench.row import Row

__all__ = ["run"]

AIM = 2.2
# below this many bytes of weights the framework itself is most of the peak, and the aim means nothing
LEAST = 9e8
MB = 1e6


def run(*, engine_name: str, path: str) -> list[Row]:
    """Return the peak of this process, framework included, in units of the weights' size."""
    from portnet import Model, engine

    adapter = engine(engine_name)
    before = _peak()
    network = adapter.lower(Model.load(path))
    size, peak = network.model.parameter_count * 4, _peak()
    note = f"of it {before / MB:,.0f} MB for Python and the framework; file of {Path(path).stat().st_size / MB:,.0f} MB"
    return [
        Row(
            "memory",
            f"{size / 1e9:.2f} GB of weights",
            engine_name,
            "the weights' size",
            unit="MB",
            ours=peak / MB,
            theirs=size / MB,
            score=peak / size,
            kind="× weights",
            aim=AIM if size >= LEAST else None,
            rounds=1,
            note=note,
        )
    ]


def _peak() -> int:
    """Most bytes of memory that the process has had resident (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
