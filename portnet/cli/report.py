"""``portnet report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[
        str | None, typer.Argument(help="Folder of labelled images it has not seen; without, only training is shown.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .html file to write.")] = Path("report.html"),
    ambiguous: Annotated[int, typer.Option(help="Most ambiguous images to show.", min=1)] = 10,
    mistakes: Annotated[int, typer.Option(help="Images with a wrong name to show.", min=0)] = 25,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
) -> None:
    """Write a run as one page of HTML: curves, confusion, images to look at, policy, parity, proof of frozenness.

    Example: portnet report runs/pets photos/test -o report.html
    """
    from portnet.finetuning.run import Run

    path = Run.load(run).report(
        output, data, ambiguous=ambiguous, mistakes=mistakes, batch_size=batch_size, on_error=on_error
    )
    typer.echo(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
