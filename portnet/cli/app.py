"""The application: one line a command. Adding a command is a file here and a line below."""

from __future__ import annotations

from typing import Annotated

import typer

from portnet.cli.ambiguity import ambiguity
from portnet.cli.cache import cache
from portnet.cli.check import check
from portnet.cli.compare import compare
from portnet.cli.convert import convert
from portnet.cli.demo import demo
from portnet.cli.doctor import doctor
from portnet.cli.evaluate import evaluate
from portnet.cli.export import export
from portnet.cli.features import features
from portnet.cli.finetune import finetune
from portnet.cli.optional import WithAugment
from portnet.cli.plot import plot
from portnet.cli.predict import predict
from portnet.cli.recommend import recommend
from portnet.cli.report import report
from portnet.cli.summary import summary
from portnet.cli.weights import weights
from portnet.cli.zoo import zoo

__all__ = ["app"]

app = typer.Typer(
    name="portnet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune, convert and ship neural networks across PyTorch, Keras, MXNet Gluon and ONNX, every conversion "
    "proved against onnxruntime.\n\nBegin with: portnet demo",
)

COMMANDS = (
    finetune,
    evaluate,
    ambiguity,
    report,
    compare,
    export,
    check,
    convert,
    predict,
    features,
    recommend,
    summary,
    plot,
    zoo,
    weights,
    cache,
    doctor,
    demo,
)
for command in COMMANDS:
    app.command(cls=WithAugment if command is finetune else None)(command)


def _show_version(value: bool) -> None:
    if value:
        from portnet import __version__

        typer.echo(f"portnet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of ``portnet`` itself."""
