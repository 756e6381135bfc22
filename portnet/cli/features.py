"""``portnet features``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portnet.cli.output import Json, Provider, print_json, tell_skipped

__all__ = ["features"]


def features(
    data: Annotated[str, typer.Argument(help="Folder of class folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz file to write.")],
    model: Annotated[str, typer.Option(help="A name in the zoo, an .onnx file, or a run's folder.")] = "squeezenet1_1",
    layer: Annotated[
        str | None, typer.Option(help="A layer, stage or tensor. Default: what a new head would be put on.")
    ] = None,
    pooled: Annotated[str, typer.Option(help="Maps: avg (mean over height and width), flatten, or none.")] = "avg",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    provider: Provider = None,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
    json: Json = False,
) -> None:
    """Write a network's activations on labelled images: arrays features, labels, classes and paths.

    Example: portnet features photos/ --layer fire9 -o features.npz
    """
    from portnet.data.dataset import load_dataset
    from portnet.features import FeatureExtractor, check_output, write_features

    extractor = FeatureExtractor(
        model,
        layer=layer,
        pooled=None if pooled == "none" else pooled,  # type: ignore[arg-type]
        batch_size=batch_size,
        provider=provider,
        progress=not json,
    )
    check_output(output)
    images = load_dataset(data, on_error=on_error)  # type: ignore[arg-type]
    if not json:
        tell_skipped(images.skipped)
    shape = write_features(extractor, images, output)
    if json:
        print_json({"file": str(output), "shape": list(shape), "layer": extractor.tensor, "skipped": images.skipped})
    else:
        typer.echo(f"{output}: features {'×'.join(map(str, shape))} of {extractor.tensor!r}")
