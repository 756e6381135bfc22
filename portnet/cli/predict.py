"""``portnet predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from portnet.cli.output import Json, Provider, print_json, print_table, tell_skipped

if TYPE_CHECKING:
    from portnet.data.skipped import Skipped
    from portnet.runtime.session import Prediction, Session

__all__ = ["predict"]


def predict(
    model: Annotated[str, typer.Argument(help="An .onnx file, a run's folder, or a name in the zoo.")],
    images: Annotated[list[str], typer.Argument(help="Images.", metavar="IMAGE...")],
    top: Annotated[int, typer.Option(help="Classes to list for each image.", min=1)] = 5,
    provider: Provider = None,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
    json: Json = False,
) -> None:
    """Classify images with onnxruntime.

    Example: portnet predict mobilenet_v2 cat.jpg --top 3
    """
    from portnet.runtime.session import Session
    from portnet.sources import find_model

    session = Session(find_model(model), provider=provider)
    images, predictions, skipped = _predictions(session, images, top, on_error)
    if json:
        answers = [
            {"image": image, "top": [{"label": label, "probability": p} for label, p in prediction.top]}
            for image, prediction in zip(images, predictions, strict=True)
        ]
        print_json({"provider": session.provider, "predictions": answers, "skipped": skipped})
        return
    tell_skipped(skipped)
    rows = [
        (image if rank == 0 else "", label, f"{probability:.2%}")
        for image, prediction in zip(images, predictions, strict=True)
        for rank, (label, probability) in enumerate(prediction.top)
    ]
    print_table(("image", "class", "probability"), rows)
    typer.echo(f"on {session.provider}")


def _predictions(
    session: Session, images: list[str], top: int, on_error: str
) -> tuple[list[str], list[Prediction], list[Skipped]]:
    """Return the images that could be read, what they show, and the others."""
    from portnet.data.skipped import Skipped
    from portnet.errors import DataError, InputError

    if on_error not in ("fail", "skip"):
        raise InputError(f"on_error: got {on_error!r}, expected 'fail' or 'skip'")
    if on_error == "fail":
        return images, list(session.predict(images, top=top)), []
    found: list[tuple[str, Prediction]] = []
    skipped = []
    for image in images:
        try:
            found += [(image, each) for each in session.predict([image], top=top)]
        except DataError as error:
            skipped.append(Skipped(image, str(error)))
    if not found:
        raise DataError(f"predict: got no image that can be read. The first: {skipped[0].reason}")
    return [image for image, _ in found], [prediction for _, prediction in found], skipped
