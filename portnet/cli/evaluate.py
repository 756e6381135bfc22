"""``portnet evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from portnet.cli.output import Json, Provider, print_json, print_table, tell_skipped

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[str, typer.Argument(help="A run's folder, an .onnx file, or a name in the zoo.")],
    data: Annotated[str, typer.Argument(help="Folder of class folders; the classes are the model's.")],
    backend: Annotated[
        str | None, typer.Option(help="Run on an engine (torch, keras, gluon). Default: onnxruntime.")
    ] = None,
    provider: Provider = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
    json: Json = False,
) -> None:
    """Evaluate a network on labelled images: accuracy, top-5, loss, and each class.

    Example: portnet evaluate runs/pets photos/test
    """
    from portnet.finetuning.run import evaluate as run_evaluation
    from portnet.runtime.predictor import predictor
    from portnet.sources import find_model

    network = find_model(model)
    runs, where = predictor(network, backend, provider)
    result = run_evaluation(runs, network, data, batch_size=batch_size, on_error=on_error)
    if json:
        print_json({"on": where, **result.to_dict()})
        return
    tell_skipped(result.skipped)
    typer.echo(f"{result}, on {where}")
    counts = result.confusion.sum(axis=1)
    rows = [
        (name, f"{counts[i]:,}", _share(result.precision[name]), _share(result.recall[name]))
        for i, name in enumerate(result.classes)
        if counts[i]
    ]
    print_table(("class", "images", "precision", "recall"), rows)


def _share(value: float) -> str:
    return "–" if value != value else f"{value:.1%}"
