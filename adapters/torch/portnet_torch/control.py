"""Control flow as modules that run sub-networks: If, Loop and Scan in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["If", "Loop", "Scan"]


class If(nn.Module):
    """Runs one of two branches.

    Args:
        then_branch: runs when the condition holds, on what it captures.
        else_branch: runs when it does not.
    """

    def __init__(self, then_branch: nn.Module, else_branch: nn.Module) -> None:
        super().__init__()
        self.then_branch, self.else_branch = then_branch, else_branch

    def forward(self, condition: Tensor, for_then: Sequence[Any], for_else: Sequence[Any]) -> tuple[Any, ...]:
        """Return the outputs of the branch that was chosen."""
        outputs: tuple[Any, ...] = self.then_branch(*for_then) if condition else self.else_branch(*for_else)
        return outputs


class Loop(nn.Module):
    """Runs a body while a condition holds and the trip count lasts.

    Args:
        body: (iteration, condition, *carried, *captured) -> (condition, *carried, *scanned).
        empty: shape and dtype of each scanned output where no iteration runs.
    """

    def __init__(self, body: nn.Module, empty: Sequence[tuple[list[int], torch.dtype]]) -> None:
        super().__init__()
        self.body, self.empty = body, list(empty)

    def forward(
        self, trips: Tensor | None, condition: Tensor | None, carried: Sequence[Any], captured: Sequence[Any]
    ) -> tuple[Any, ...]:
        """Return the carried values after the last iteration, then each scanned output stacked."""
        count, scanned = 0, []
        condition = torch.tensor(True) if condition is None else condition
        while condition and (trips is None or count < trips):
            condition, *results = self.body(torch.tensor(count), condition, *carried, *captured)
            carried = results[: len(carried)]
            scanned.append(results[len(carried) :])
            count += 1
        return (*carried, *_stack(scanned, self.empty, [0] * len(self.empty)))


class Scan(nn.Module):
    """Runs a body over slices of its inputs.

    Args:
        body: (*carried, *slices, *captured) -> (*carried, *scanned).
        input_axes: axis of each scanned input.
        input_reversed: whether it is read from its end.
        output_axes: axis of each scanned output.
        output_reversed: whether it is written from its end.
        empty: shape and dtype of one slice of each scanned output.
    """

    def __init__(
        self,
        body: nn.Module,
        input_axes: Sequence[int],
        input_reversed: Sequence[bool],
        output_axes: Sequence[int],
        output_reversed: Sequence[bool],
        empty: Sequence[tuple[list[int], torch.dtype]],
    ) -> None:
        super().__init__()
        self.body, self.empty = body, list(empty)
        self.input_axes, self.input_reversed = list(input_axes), list(input_reversed)
        self.output_axes, self.output_reversed = list(output_axes), list(output_reversed)

    def forward(self, carried: Sequence[Any], inputs: Sequence[Tensor], captured: Sequence[Any]) -> tuple[Any, ...]:
        """Return the carried values after the last slice, then each scanned output stacked."""
        unbound = [x.unbind(axis) for x, axis in zip(inputs, self.input_axes, strict=True)]
        columns = [x[::-1] if flip else x for x, flip in zip(unbound, self.input_reversed, strict=True)]
        scanned = []
        for slices in zip(*columns, strict=True):
            results = self.body(*carried, *slices, *captured)
            carried = results[: len(carried)]
            scanned.append(list(results[len(carried) :]))
        stacked = _stack(scanned, self.empty, self.output_axes)
        flipped = zip(stacked, self.output_axes, self.output_reversed, strict=True)
        return (*carried, *(x.flip(axis) if flip else x for x, axis, flip in flipped))


def _stack(rows: list[list[Any]], empty: Sequence[tuple[list[int], torch.dtype]], axes: Sequence[int]) -> list[Tensor]:
    if not rows:
        shapes = [(list(shape), dtype) for shape, dtype in empty]
        return [
            torch.empty(shape[: axis % (len(shape) + 1)] + [0] + shape[axis % (len(shape) + 1) :], dtype=dtype)
            for (shape, dtype), axis in zip(shapes, axes, strict=True)
        ]
    return [torch.stack(column, axis) for column, axis in zip(zip(*rows, strict=True), axes, strict=True)]
