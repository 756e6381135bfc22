"""``portnet convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert"]


def convert(
    source: Annotated[str, typer.Argument(help="An .onnx file, a run's folder, or a name in the zoo.")],
    to: Annotated[str, typer.Option(help="Engine: torch, keras or gluon.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="What to write; the suffix says the format.")],
) -> None:
    """Write a network in a framework's own format, once the written file is proved against onnxruntime.

    Example: portnet convert model.onnx --to keras -o model.keras
    """
    from portnet.conversion import convert_to_file

    report = convert_to_file(source, to=to, output=output)
    typer.echo(str(report))
