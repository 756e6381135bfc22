"""``portnet ambiguity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portnet.cli.output import Json, Provider, print_json, print_table, tell_skipped

__all__ = ["ambiguity"]


def ambiguity(
    model: Annotated[str, typer.Argument(help="A run's folder, an .onnx file, or a name in the zoo.")],
    data: Annotated[str, typer.Argument(help="Folder of class folders; the classes are the model's.")],
    top: Annotated[int, typer.Option(help="Images to list.", min=1)] = 10,
    sheet: Annotated[Path | None, typer.Option(help="Draw them into this .png, .jpg or .webp file.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Run on an engine (torch, keras, gluon). Default: onnxruntime.")
    ] = None,
    provider: Provider = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
    json: Json = False,
) -> None:
    """List the images that a network finds hardest to decide: second-largest probability over the largest.

    Example: portnet ambiguity runs/pets photos/test --sheet ambiguous.png
    """
    from portnet.finetuning.run import evaluate
    from portnet.runtime.predictor import predictor
    from portnet.sources import find_model

    network = find_model(model)
    runs, where = predictor(network, backend, provider)
    result = evaluate(runs, network, data, batch_size=batch_size, on_error=on_error)
    found = result.ambiguity(top)
    if sheet is not None:
        found.contact_sheet(sheet)
    if json:
        drawn = None if sheet is None else str(sheet)
        print_json({"on": where, "sheet": drawn, "skipped": result.skipped, **found.to_dict()})
        return
    tell_skipped(result.skipped)
    print_table(("image", "ambiguity", "likeliest", "second", "true class", "path"), found.as_rows())
    typer.echo(f"\nof {len(found.values):,} images, on {where}")
    if sheet is not None:
        typer.echo(f"contact sheet: {sheet}")
