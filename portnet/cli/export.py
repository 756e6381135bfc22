"""``portnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portnet.cli.output import Json, print_json
from portnet.cli.steps import Steps

__all__ = ["export"]


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A run's folder; a name in the zoo; torchvision:, timm:, keras: or gluon:NAME; "
            "package.module:factory; a SavedModel folder; or a file: .onnx, .pt2, .keras, .h5, .json, -symbol.json, "
            ".prototxt, .cfg, .tflite."
        ),
    ],
    onnx: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="File of the weights, where it does not lie beside SOURCE under its name.")
    ] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="For inference alone: BatchNormalization folded, Dropout removed.")
    ] = False,
    input_shape: Annotated[
        str | None,
        typer.Option(help="Input sizes in SOURCE's own order, batch first, where it does not say: 1,3,224,224."),
    ] = None,
    fixed_batch: Annotated[bool, typer.Option("--fixed-batch", help="Keep the batch size of the source.")] = False,
    keep_layout: Annotated[
        bool, typer.Option("--keep-layout", help="Keep channels last at inputs and outputs. Default: channels first.")
    ] = False,
    images: Annotated[
        list[Path] | None, typer.Option(help="An image to compare on besides random input. May be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a network of any framework as .onnx, once it is proved to compute what the original does. Else no file is
    left.

    A run is proved on the engine it was trained on, a network of the zoo or an .onnx file on the first engine that is
    installed, everything else against its own framework: Caffe and Darknet files against OpenCV, where it is installed.

    Example: portnet export runs/pets --onnx pets.onnx

    Example: portnet export 'keras:ResNet50?weights=imagenet' --onnx resnet50.onnx

    Example: portnet export net.prototxt --weights net.caffemodel --onnx net.onnx --deploy
    """
    from portnet.exporting import export_network
    from portnet.originals import Request

    request = Request.of(
        weights=weights, input_shape=input_shape, dynamic_batch=not fixed_batch, keep_layout=keep_layout
    )
    with Steps() as steps:
        found = export_network(source, onnx, request, deploy=deploy, images=_paths(images), progress=steps)
    size = onnx.stat().st_size
    if json:
        print_json({"file": str(onnx), "bytes": size, **found.to_dict()})
    else:
        typer.echo(f"{found}\n{onnx}: {size / 1e6:.1f} MB")


def _paths(images: list[Path] | None) -> Any:
    return [str(path) for path in images] if images else None
