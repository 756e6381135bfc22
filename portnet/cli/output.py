"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

__all__ = ["Device", "Json", "Provider", "print_json", "print_table", "tell_skipped"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Provider = Annotated[
    str | None,
    typer.Option(help="onnxruntime's execution provider: cpu, cuda, ... Default: the best that really loads."),
]
# columns of an output that is no terminal
_NO_WIDTH = 100_000
Device = Annotated[str, typer.Option(help="The engine's device: cpu, cuda:0, ...")]


def print_json(data: Any) -> None:
    """Print data as one JSON document; NaN and infinity, which JSON lacks, become null."""
    json.dump(_plain(data), sys.stdout, indent=2)
    sys.stdout.write("\n")


def tell_skipped(skipped: Sequence[Any]) -> None:
    """Say on standard error which images were left out, and why."""
    from portnet.data.skipped import describe_skipped

    for line in describe_skipped(skipped, "; --json names them all"):
        typer.echo(line, err=True)


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, float) and (data != data or data in (float("inf"), float("-inf"))):
        return None
    return data


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table; columns whose cells all look like numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    cells = [[_printable(str(cell)) for cell in row] for row in rows]
    if title:
        print(title)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        numeric = bool(cells) and all(row[i][:1].isdigit() or row[i] in ("", "–") for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    # a pipe or a file has no width to fit into: nothing is folded there
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _NO_WIDTH)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _printable(text: str) -> str:
    """Return text without what would steer the terminal: file names may hold anything."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
