"""A deep network folded into columns, so that it fits a page: cut only where a single tensor passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from portnet.drawing.blocks import Block
from portnet.errors import InputError

__all__ = ["choose_columns", "cut_points", "ranks_of", "split"]

# a cut inside a stage counts as being so many rows from where it should be
_STAGE_PENALTY = 3
MOST_COLUMNS = 12


def ranks_of(blocks: Sequence[Block]) -> list[int]:
    """Return the longest path to each box."""
    ranks: list[int] = []
    for block in blocks:
        ranks.append(max((ranks[source] + 1 for source in block.sources), default=0))
    return ranks


def cut_points(blocks: Sequence[Block]) -> list[tuple[int, bool]]:
    """Return (rank, whether inside a stage) of every place where one tensor alone leads to what follows."""
    ranks = ranks_of(blocks)
    passing: list[set[int]] = [set() for _ in range(max(ranks, default=0) + 1)]
    for target, block in enumerate(blocks):
        for source in block.sources:
            for rank in range(ranks[source], ranks[target]):
                passing[rank].add(source)
    # a box that reads nothing and stands lower would be cut off from what it belongs to
    lone = {ranks[i] for i, block in enumerate(blocks) if not block.sources} - {0}
    stages = [
        {block.stage for block, rank in zip(blocks, ranks, strict=True) if rank == row} for row in range(len(passing))
    ]
    return [
        (rank, bool(stages[rank] & stages[rank + 1] - {""}))
        for rank, sources in enumerate(passing[:-1])
        if len(sources) == 1 and ranks[min(sources)] == rank and rank + 1 not in lone
    ]


def choose_columns(rows: int, row_height: float, column_width: float, aspect: float) -> int:
    """Return how many columns bring width over height nearest to ``aspect``."""
    return min(
        range(1, MOST_COLUMNS + 1),
        key=lambda n: abs(math.log(n * column_width / (math.ceil(rows / n) * row_height) / aspect)),
    )


def split(blocks: Sequence[Block], columns: int) -> list[list[int]]:
    """Return the boxes of each column, as indices: at most ``columns``, as even as the cuts allow.

    Raises:
        InputError: a count that is out of range.
    """
    if not 1 <= columns <= MOST_COLUMNS:
        raise InputError(f"columns: got {columns}, expected 1 to {MOST_COLUMNS}")
    ranks = ranks_of(blocks)
    rows = max(ranks, default=0) + 1
    points = cut_points(blocks)
    cuts: list[int] = []
    for number in range(1, columns):
        wanted = number * rows / columns - 1
        free = [point for point in points if not cuts or point[0] > cuts[-1]]
        if free:
            cuts.append(min(free, key=lambda p: abs(p[0] - wanted) + _STAGE_PENALTY * p[1])[0])
    column_of = [sum(rank > cut for cut in cuts) for rank in ranks]
    return [[i for i, column in enumerate(column_of) if column == number] for number in range(len(cuts) + 1)]
