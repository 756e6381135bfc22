"""``portnet convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portnet.cli.output import Json, print_json
from portnet.cli.shape import Shape, shapes_of
from portnet.cli.steps import Steps

__all__ = ["convert"]


def convert(
    source: Annotated[str, typer.Argument(help="An .onnx file, a run's folder, or a name in the zoo.")],
    to: Annotated[str, typer.Option(help="Engine: torch, keras or gluon.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="What to write; its suffix says the format.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="FORMAT",
            help="pt2 (.pt2), safetensors (.safetensors) or code (a folder or .py) for torch; keras (.keras), "
            "saved_model (a folder) or tflite (.tflite) for keras; symbol (two files) for gluon.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="An .npz of arrays by input name to compare on. Default: random ones.")
    ] = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Write a network in a framework's own format. The framework loads what was written, and it is compared with
    onnxruntime, before the files appear under their names; if that fails, no file is left.

    Example: portnet convert model.onnx --to keras -o model.keras

    Example: portnet convert model.onnx --to torch --as code -o model/

    Example: portnet convert ocr.onnx --to gluon -o ocr --shape x=?,3,48,320
    """
    from portnet.conversion import convert_to_file
    from portnet.errors import InputError
    from portnet.weights.npz import read_npz

    shapes = shapes_of(shape)
    if inputs is not None and not inputs.is_file():
        raise InputError(f"inputs: no such file: {inputs}")
    arrays = None if inputs is None else read_npz(inputs)
    with Steps() as steps:
        report = convert_to_file(source, to=to, output=output, form=form, inputs=arrays, shapes=shapes, progress=steps)
    if json:
        print_json(report.to_dict())
    else:
        typer.echo(str(report))
