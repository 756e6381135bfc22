"""``portnet recommend``."""

from __future__ import annotations

from typing import Annotated

import typer

from portnet.cli.output import Json, print_json, tell_skipped

__all__ = ["recommend"]


def recommend(
    data: Annotated[str, typer.Argument(help="Folder of class folders; or one with train and val folders.")],
    model: Annotated[str, typer.Option(help="The ImageNet network that is asked: a zoo name or an .onnx file.")] = (
        "mobilenet_v2"
    ),
    seed: Annotated[int, typer.Option(help="Decides which images it is asked about.")] = 0,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
    json: Json = False,
) -> None:
    """Say how to use a pretrained network on these images, from their number and their likeness to ImageNet's.

    Example: portnet recommend photos/
    """
    from portnet.recommendation import recommend as advise

    found = advise(data, model=model, seed=seed, on_error=on_error)
    if json:
        print_json(found.to_dict())
        return
    tell_skipped(found.skipped)
    typer.echo(found.advice)
    for reason in found.reasons:
        typer.echo(f"- {reason}")
    for command in found.commands:
        typer.echo(f"\n    {command}")
