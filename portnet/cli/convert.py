"""``portnet convert``."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from portnet.cli.output import Json, print_json

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
    json: Json = False,
) -> None:
    """Write a network in a framework's own format. The framework loads what was written, and it is compared with
    onnxruntime, before the files appear under their names; if that fails, no file is left.

    Example: portnet convert model.onnx --to keras -o model.keras

    Example: portnet convert model.onnx --to torch --as code -o model/
    """
    from portnet.conversion import convert_to_file
    from portnet.weights.npz import read_npz

    arrays = None if inputs is None else read_npz(inputs)
    with _Steps() as steps:
        report = convert_to_file(source, to=to, output=output, form=form, inputs=arrays, progress=steps)
    if json:
        print_json(report.to_dict())
    else:
        typer.echo(str(report))


class _Steps:
    """Shows on standard error each step while it runs and, when it is done, how long it took."""

    def __init__(self) -> None:
        from rich.console import Console

        self._status = Console(stderr=True, highlight=False).status("")
        self._step, self._start = "", 0.0

    def __call__(self, step: str) -> None:
        self._finish()
        self._step, self._start = step, time.perf_counter()
        self._status.update(f"{_plain(step)} ...")

    def _finish(self) -> None:
        if self._step:
            self._status.console.print(f"{_plain(self._step)}: {time.perf_counter() - self._start:.1f} s")

    def __enter__(self) -> _Steps:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._finish()
        self._status.stop()


def _plain(text: str) -> Any:
    from rich.markup import escape

    return escape(text)
