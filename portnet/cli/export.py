"""``portnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portnet.cli.output import Json, print_json

__all__ = ["export"]


def export(
    run: Annotated[str, typer.Argument(help="A run's folder, or a name in the zoo.")],
    onnx: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    json: Json = False,
) -> None:
    """Write a network as .onnx, once onnxruntime and its own engine are proved to agree. Else no file is left.

    Example: portnet export runs/pets --onnx pets.onnx
    """
    from portnet.conversion import load_model
    from portnet.finetuning.run import Run

    if Path(run).is_dir():
        trained = Run.load(run)
        report = trained.check()
        trained.export(onnx, report=report)
        text = str(report)
    else:
        load_model(run).save(onnx)
        report, text = None, "the zoo's own graph; check it on an engine with: portnet check FILE torch"
    size = onnx.stat().st_size
    if json:
        print_json({"file": str(onnx), "bytes": size, "check": None if report is None else report.to_dict()})
    else:
        typer.echo(f"{text}\n{onnx}: {size / 1e6:.1f} MB")
