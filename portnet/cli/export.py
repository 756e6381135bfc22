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
    """Write a network as .onnx, once onnxruntime and an engine are proved to agree. Else no file is left.

    A run is proved on the engine it was trained on, a network of the zoo on the first engine that is installed.

    Example: portnet export runs/pets --onnx pets.onnx
    """
    from portnet.engines import engine, installed
    from portnet.finetuning.run import Run
    from portnet.parity.check import check
    from portnet.sources import find_model

    if Path(run).is_dir():
        trained = Run.load(run)
        report = trained.check()
        trained.export(onnx, report=report)
    else:
        model = find_model(run)
        report = check(engine(next(iter(installed()), "torch")).lower(model), model)
        report.raise_if_failed()
        model.save(onnx)
    size = onnx.stat().st_size
    if json:
        print_json({"file": str(onnx), "bytes": size, "check": report.to_dict()})
    else:
        typer.echo(f"{report}\n{onnx}: {size / 1e6:.1f} MB")
