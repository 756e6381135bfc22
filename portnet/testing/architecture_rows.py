"""The rows of the table of architectures: what became of each network, their file and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Row", "parse_row", "read_rows", "table"]


@dataclass
class Row:
    """What became of one network.

    Attributes:
        source: the word that names it.
        size: pixels of its input.
        nodes: nodes of the captured graph.
        parameters: trainable scalars of the captured graph.
        expected: trainable scalars as the framework counts them, without those that inference does not read; None
            where it does not say.
        capture: largest difference from the original over the spread of its outputs (see `Yardstick`), or what went
            wrong.
        seconds: time that capture took, comparison included.
        engines: the same by engine, against onnxruntime.
        notes: what capture said.
    """

    source: str
    size: int = 0
    nodes: int = 0
    parameters: int = 0
    expected: int | None = None
    capture: float | str = "not run"
    seconds: float = 0.0
    engines: dict[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything agrees, counts included."""
        results = [self.capture, *self.engines.values()]
        return all(isinstance(result, float) for result in results) and self.expected in (None, self.parameters)


def parse_row(line: str) -> Row:
    """Return a row from its line of JSON."""
    values = json.loads(line)
    values["notes"] = tuple(values["notes"])
    return Row(**values)


def read_rows(path: Path) -> list[Row]:
    """Return the rows that a run has written so far; none where there is no file."""
    return [parse_row(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown: differences, or ✗ with the reason below."""
    names = list(dict.fromkeys(name for row in rows for name in row.engines))
    lines = [f"| network | pixels | nodes | parameters | capture | {' | '.join(names)} |"]
    lines.append("|---|---:|---:|---:|---:|" + "---:|" * len(names))
    reasons = []
    for row in sorted(rows, key=lambda row: row.source):
        cells = [_cell(row.capture), *(_cell(row.engines.get(name, "not run")) for name in names)]
        count = f"{row.parameters:,}" + (
            "" if row.expected in (None, row.parameters) else f", expected {row.expected:,}"
        )
        lines.append(f"| `{row.source}` | {row.size} | {row.nodes:,} | {count} | {' | '.join(cells)} |")
        failed = [("capture", row.capture), *row.engines.items()]
        reasons += [f"- `{row.source}`, {what}: {why}" for what, why in failed if isinstance(why, str)]
    return "\n".join(lines + ([""] + reasons if reasons else [])) + "\n"


def _cell(result: float | str) -> str:
    return f"{result:.1e}" if isinstance(result, float) else "✗"
