"""What a policy comes to in one network: a row for each layer, and the plan that an engine's trainer follows."""

from __future__ import annotations

from dataclasses import dataclass

from portnet.adapter import ParameterPlan
from portnet.graph.layers import Layer
from portnet.graph.parameters import Role

__all__ = ["FreezeTable", "Row"]


@dataclass(frozen=True)
class Row:
    """One layer of a resolved policy.

    Attributes:
        layer: the layer, with its initializers.
        trainable: whether its weights may move.
        lr_mult: factor on the learning rate.
        statistics: "frozen" or "train" for a layer with running statistics, else "".
        kept: names of its weights that do not move although others of the layer do.
    """

    layer: Layer
    trainable: bool
    lr_mult: float
    statistics: str = ""
    kept: frozenset[str] = frozenset()

    @property
    def moving(self) -> int:
        """Count of scalars that may move."""
        if not self.trainable:
            return 0
        return sum(size for name, role, size in self.layer.initializers if role.trainable and name not in self.kept)


@dataclass(frozen=True)
class FreezeTable:
    """A policy applied to one network: a row for each layer that has weights or statistics."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> dict[str, ParameterPlan]:
        """Plan of every trainable initializer, by ONNX name."""
        return {
            name: ParameterPlan(row.trainable and name not in row.kept, row.lr_mult, role.decays)
            for row in self.rows
            for name, role, _ in row.layer.initializers
            if role.trainable
        }

    @property
    def frozen_statistics(self) -> frozenset[str]:
        """Names of running means and variances that do not move."""
        return frozenset(
            name
            for row in self.rows
            for name, role, _ in row.layer.initializers
            if role is Role.STATISTIC and row.statistics == "frozen"
        )

    @property
    def frozen(self) -> list[str]:
        """Names of all initializers that must be bit-identical after training, weights and statistics."""
        weights = [name for name, plan in self.parameters.items() if not plan.trainable]
        return sorted([*weights, *self.frozen_statistics])

    @property
    def trainable_count(self) -> int:
        """Count of scalars that may move."""
        return sum(row.moving for row in self.rows)

    @property
    def total_count(self) -> int:
        """Count of weights, frozen ones included, statistics not."""
        return sum(row.layer.parameters for row in self.rows)

    def as_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Return (number, layer, stage, parameters, trainable, lr multiplier) as text, a row a layer."""
        return [
            (
                str(row.layer.index),
                row.layer.name,
                row.layer.stage,
                f"{row.layer.parameters:,}",
                ("yes" if row.trainable else "frozen")
                + (f", but {', '.join(sorted(row.kept))}" if row.kept else "")
                + (f", statistics {row.statistics}" if row.statistics else ""),
                f"{row.lr_mult:g}" if row.trainable else "0",
            )
            for row in self.rows
        ]

    def __str__(self) -> str:
        header = ("#", "layer", "stage", "parameters", "trainable", "lr ×")
        table = [header, *self.as_rows()]
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        lines.append(f"{self.trainable_count:,} of {self.total_count:,} parameters train")
        return "\n".join(line.rstrip() for line in lines)
