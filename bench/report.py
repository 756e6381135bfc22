"""The tables: on the screen and as Markdown, and the file that keeps the rows."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.row import Row

__all__ = ["environment", "load", "markdown", "save", "show"]

PACKAGES = ("portnet", "torch", "torchvision", "keras", "tensorflow-cpu", "mxnet", "onnx", "onnxruntime", "numpy")
HEADINGS = {
    "step": "One training step",
    "inference": "One inference batch",
    "convert": "Conversion of an .onnx file",
    "converted inference": "Inference of the converted network",
    "torch.compile": "torch.compile of the converted network",
    "memory": "Peak memory of conversion",
    "loading": "Images from JPEG files, by image",
    "loop": "PortNet's loop, by step",
    "frozen": "A head on a frozen network, from files to the last step",
    "accuracy": "Accuracy of a head on a frozen network",
    "head step": "One step of a head on kept activations",
    "imports": "Start-up",
}
COLUMNS = ("", "engine", "against", "PortNet", "other", "score", "quartiles", "aim", "")
# columns that the tables need at least
WIDTH = 132
_VERDICTS = {True: "met", False: "missed", None: ""}

INTRODUCTION = """# Benchmarks

Made by `make bench`; the figures are in `bench/results.json`. PortNet and the other side live in a process each and
are asked in turns (ABAB) for the same batch, after two calls of each that do not count. Times are medians; the score
is the ratio of the medians, with the quartiles of the rounds' ratios beside it. Below 1, PortNet is the faster. Only
ratios mean something: the machine was shared while it was measured. Idle OpenMP threads sleep on both sides
(`OMP_WAIT_POLICY=PASSIVE`, which PortNet sets by itself).

A step takes a numpy batch and gives back the loss as a number: forward, backward and SGD with momentum over all
parameters. Weights are random, batch norms know the statistics of the batch.
"""


def environment() -> dict[str, Any]:
    """Return what a reader must know of the machine, in general terms, and versions."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def load(path: Path) -> list[Row]:
    """Return the rows of a file of results; none where it does not exist."""
    if not path.exists():
        return []
    return [Row.from_dict(fields) for fields in json.loads(path.read_text())["rows"]]


def save(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Write rows over those of the same thing that the file holds; return all of them, in the tables' order."""
    kept = {row.key: row for row in [*load(path), *rows]}
    order = list(HEADINGS)
    merged = sorted(kept.values(), key=lambda row: (order.index(row.section), row.subject, row.engine, row.against))
    text = json.dumps({"environment": environment(), "rows": [row.to_dict() for row in merged]}, indent=1)
    temporary = path.with_suffix(".part")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)
    return merged


def show(rows: Sequence[Row]) -> None:
    """Print a table for each section."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, WIDTH)
    for section, of_section in _sections(rows):
        table = Table(title=HEADINGS[section], title_justify="left", header_style="bold")
        for column in COLUMNS:
            table.add_column(column)
        for row in of_section:
            table.add_row(*_cells(row))
        console.print(table)
        for note in _notes(of_section):
            console.print(f"  {note}", style="dim", highlight=False)


def markdown(rows: Sequence[Row]) -> str:
    """Return the page of the documentation."""
    about = environment()
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    days = sorted({row.measured for row in rows if row.measured})
    parts = [INTRODUCTION, f"Machine: {about['machine']}. Python {about['python']}, {versions}."]
    parts.append(f"Measured: {', '.join(days)}.")
    for section, of_section in _sections(rows):
        parts.append(f"\n## {HEADINGS[section]}\n\n{_context(of_section)}" + _table(of_section))
        parts += [f"- {note}" for note in _notes(of_section)]
    return "\n".join(parts) + "\n"


def _table(rows: Iterable[Row]) -> str:
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(_cells(row)) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sections(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    found = {section: [row for row in rows if row.section == section] for section in HEADINGS}
    return [(section, of_section) for section, of_section in found.items() if of_section]


def _context(rows: Sequence[Row]) -> str:
    told = {", ".join(f"{name} {value}" for name, value in (row.context or {}).items()) for row in rows} - {""}
    return f"{'; '.join(sorted(told)).capitalize()}.\n\n" if told else ""


def _notes(rows: Sequence[Row]) -> list[str]:
    subjects: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            subjects.setdefault(row.note, []).append(f"{row.subject} {row.engine}".strip())
    return [f"{', '.join(dict.fromkeys(names))}: {note}." for note, names in subjects.items()]


def _cells(row: Row) -> list[str]:
    spread = "" if row.spread is None else f"{_figure(row, row.spread[0])}–{_figure(row, row.spread[1])}"
    sides = [_amount(row.ours, row.unit), _amount(row.theirs, row.unit)]
    aim = "" if row.aim is None else f"≤ {row.aim:g}"
    score = "not measured" if row.score is None else f"{_figure(row, row.score)}{_SUFFIX[row.kind]}"
    return [row.subject, row.engine, row.against, *sides, score, spread, aim, _VERDICTS[row.met]]


# how a score of each kind is told
_SUFFIX = {
    "ratio": "×",
    "ms over": " ms more",
    "modules": " modules",
    "× weights": "×",
    "max abs": " max abs",
    "points": " points",
}


def _figure(row: Row, value: float) -> str:
    if row.kind == "max abs":
        return f"{value:.1e}"
    return f"{value:.0f}" if row.kind in ("ms over", "modules") else f"{value:.2f}"


def _amount(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
