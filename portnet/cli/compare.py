"""``portnet compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portnet.cli.output import Json, print_json, print_table

__all__ = ["compare"]


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, two or more.", metavar="RUN...")],
    plot: Annotated[Path | None, typer.Option(help="Lay their curves over each other in this .svg or .png.")] = None,
    json: Json = False,
) -> None:
    """Compare runs: the settings, data and versions that differ, and what came of each.

    Example: portnet compare runs/adam runs/sgd --plot curves.svg
    """
    from portnet.drawing.curves import plot_curves
    from portnet.finetuning.comparing import compare as compare_runs
    from portnet.finetuning.run import Run

    loaded = {str(folder): Run.load(folder) for folder in runs}
    found = compare_runs(loaded)
    if plot is not None:
        plot_curves([run.curves(Path(name).name) for name, run in loaded.items()], plot)
    if json:
        print_json({**found.to_dict(), "plot": None if plot is None else str(plot)})
        return
    columns = ("", *found.names)
    if found.differences:
        print_table(columns, [(name, *map(_text, values)) for name, values in found.differences.items()])
    else:
        typer.echo("settings, data and versions are the same")
    typer.echo("")
    print_table(columns, [(name, *(_result(name, v) for v in values)) for name, values in found.results.items()])
    if plot is not None:
        typer.echo(f"\ncurves: {plot}")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    # a digest is told from another by its first few places
    return value[:12] + "…" if isinstance(value, str) and len(value) == 64 else str(value)


def _result(name: str, value: float | int | str | None) -> str:
    if value is None:
        return "–"
    from portnet.drawing.text import figure

    if "accuracy" in name:
        return f"{value:.2%}"
    return figure(float(value)) if "loss" in name else f"{value:,}"
