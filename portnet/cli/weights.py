"""``portnet weights``."""

from __future__ import annotations

from typing import Annotated

import typer

from portnet.cli.output import Json, print_json, print_table

__all__ = ["weights"]


def weights(
    network: Annotated[str, typer.Argument(help="A name in the zoo.")],
    file: Annotated[
        str,
        typer.Argument(
            help="A weights file: .pth, .safetensors, .npz, .h5, .params, .caffemodel; or a network with its weights: "
            ".onnx, .keras, .h5, .pt2, -symbol.json, .prototxt, .cfg. A network that lies beside its weights under the "
            "same name is found."
        ),
    ],
    classes: Annotated[int | None, typer.Option(help="Classes of the head. Default: the file's.")] = None,
    backbone_only: Annotated[
        bool, typer.Option("--backbone-only", help="Leave the head out: the file has another one, or none.")
    ] = False,
    brief: Annotated[bool, typer.Option("--brief", help="Without the table of arrays.")] = False,
    json: Json = False,
) -> None:
    """Say which array of a weights file goes onto which initializer of a network of the zoo, by which rule, and what
    is left over. The network that a file tells is compared with ours.

    Use the same file with: portnet finetune photos/ --backbone resnet18 --weights FILE

    Example: portnet weights resnet18 pets.pth

    Example: portnet weights squeezenet1_1 squeezenet_v1.1.caffemodel --json
    """
    from portnet.matching import match_weights

    found = match_weights(network, file, num_classes=classes, backbone_only=backbone_only)
    if json:
        print_json(found.to_dict())
        return
    if not brief:
        print_table(("initializer", "shape", "array of the file", "its shape", "by"), found.report.rows())
        typer.echo("")
    typer.echo(str(found))
