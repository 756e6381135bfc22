"""``portnet plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["plot"]


def plot(
    model: Annotated[str, typer.Argument(help="A name in the zoo, an .onnx file, or a run's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .svg or .png file to write.")],
    every_layer: Annotated[
        bool, typer.Option("--layers", help="A box for each layer, numbered as freeze policies number them.")
    ] = False,
    columns: Annotated[int | None, typer.Option(help="Columns to fold it into. Default: what suits a page.")] = None,
    size: Annotated[int | None, typer.Option(help="Input size in pixels, of a zoo network.")] = None,
) -> None:
    """Draw a network's graph: boxes by kind of layer with their shapes, branches side by side, stages framed.

    Example: portnet plot squeezenet1_1 -o squeezenet.svg
    """
    from portnet.drawing.network import plot_network
    from portnet.sources import find_model

    network = find_model(model, weights=None, size=size)
    path = plot_network(network, output, every_layer=every_layer, columns=columns)
    typer.echo(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
