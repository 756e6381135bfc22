"""``portnet predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from portnet.cli.output import Json, Provider, print_json, print_table

__all__ = ["predict"]


def predict(
    model: Annotated[str, typer.Argument(help="An .onnx file, a run's folder, or a name in the zoo.")],
    images: Annotated[list[str], typer.Argument(help="Images.", metavar="IMAGE...")],
    top: Annotated[int, typer.Option(help="Classes to list for each image.", min=1)] = 5,
    provider: Provider = None,
    json: Json = False,
) -> None:
    """Classify images with onnxruntime.

    Example: portnet predict mobilenet_v2 cat.jpg --top 3
    """
    from portnet.runtime.session import Session
    from portnet.sources import find_model

    session = Session(find_model(model), provider=provider)
    predictions = session.predict(list(images), top=top)
    if json:
        answers = [
            {"image": image, "top": [{"label": label, "probability": p} for label, p in prediction.top]}
            for image, prediction in zip(images, predictions, strict=True)
        ]
        print_json({"provider": session.provider, "predictions": answers})
        return
    rows = [
        (image if rank == 0 else "", label, f"{probability:.2%}")
        for image, prediction in zip(images, predictions, strict=True)
        for rank, (label, probability) in enumerate(prediction.top)
    ]
    print_table(("image", "class", "probability"), rows)
    typer.echo(f"on {session.provider}")
