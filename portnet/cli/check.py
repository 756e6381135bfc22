"""``portnet check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portnet.cli.output import Json, print_json, print_table
from portnet.cli.shape import Shape, shapes_of

__all__ = ["check"]


def check(
    a: Annotated[str, typer.Argument(help="An .onnx file, a run's folder, a name in the zoo, or an engine's name.")],
    b: Annotated[
        str,
        typer.Argument(
            help="The reference, likewise. An engine's name lowers the other side; torch@cuda:0 does on a device, and "
            "onnxruntime@cuda runs it on another provider."
        ),
    ],
    image: Annotated[list[Path] | None, typer.Option(help="Compare on this image too. May be repeated.")] = None,
    atol: Annotated[
        float | None,
        typer.Option(help="Absolute tolerance. Default: 1e-4, and more where numbers are rounded to 8 bits inside."),
    ] = None,
    rtol: Annotated[float, typer.Option(help="Relative tolerance.")] = 1e-4,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Compare two networks on the same inputs. Exit 1 when they differ; the first layer that does is named.

    Example: portnet check pets.onnx torch
    """
    from portnet.parity.check import check as compare
    from portnet.parity.noise import ATOL

    images = [str(path) for path in image] if image else None
    report = compare(a, b, images=images, atol=atol, rtol=rtol, seed=seed, shapes=shapes_of(shape))
    if json:
        print_json(report.to_dict())
    else:
        typer.echo(f"{report.a} against {report.b}")
        if atol is None and report.tolerance.atol > ATOL:
            typer.echo(
                f"  numbers are rounded inside: {report.tolerance.atol:.1e} is allowed, "
                "4 times what onnxruntime's own optimisations change"
            )
        for problem in report.problems:
            typer.echo(f"  {problem}")
        rows = [
            (c.output, c.batch, _number(c.max_abs), _number(c.max_rel), _place(c.where), c.problem or "ok")
            for c in report.comparisons
        ]
        print_table(("output", "inputs", "max abs", "max rel", "at", "verdict"), rows)
        if report.first_divergence:
            typer.echo(f"first layer that differs: {report.first_divergence}")
        typer.echo("PASSED" if report.passed else "FAILED")
    if not report.passed:
        raise typer.Exit(1)


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2e}"


def _place(where: tuple[int, ...]) -> str:
    return ",".join(map(str, where))
