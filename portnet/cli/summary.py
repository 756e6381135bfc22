"""``portnet summary``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portnet.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from portnet.finetuning.freeze_table import FreezeTable
    from portnet.graph.model import Model
    from portnet.graph.summary import Summary, SummaryRow

__all__ = ["summary"]


def summary(
    model: Annotated[str, typer.Argument(help="A name in the zoo, an .onnx file, or a run's folder.")],
    classes: Annotated[int | None, typer.Option(help="Show it with a new head for this many classes.")] = None,
    head: Annotated[str, typer.Option(help="That head: natural, linear, conv, mlp or mlp:512,256.")] = "natural",
    freeze: Annotated[
        str | None, typer.Option(help="none, backbone, first:16, until:fire5, match:REGEX, captured.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Input size in pixels, of a zoo network.")] = None,
    json: Json = False,
) -> None:
    """List a network's layers: number, output shape, parameters, what a freeze policy leaves to train, MACs.

    Example: portnet summary squeezenet1_1 --classes 3 --freeze backbone
    """
    from portnet.graph.summary import summarize

    network = _network(model, classes, head, size)
    found = summarize(network)
    table = None if freeze is None else _policy(network, freeze)
    if json:
        print_json(_plain(found, table))
        return
    trains = {} if table is None else {row.layer.index: row.trainable for row in table.rows}
    columns = ["#", "layer", "op", "stage", "output", "parameters", "MACs"]
    if table is not None:
        columns.insert(6, "trains")
    rows = []
    for row in found.rows:
        cells = [str(row.layer.index), row.layer.name, row.layer.op, row.layer.stage, _shape(row)]
        cells.append(f"{row.layer.parameters:,}" if row.layer.parameters else "")
        if table is not None:
            cells.append({True: "yes", False: "frozen"}.get(trains.get(row.layer.index), ""))  # type: ignore[arg-type]
        rows.append([*cells, "?" if row.macs is None else f"{row.macs:,}" if row.macs else ""])
    print_table(columns, rows)
    typer.echo("\n" + _totals(found, table))


def _network(source: str, classes: int | None, head: str, size: int | None) -> Model:
    from portnet.errors import InputError
    from portnet.finetuning.backbone import Backbone
    from portnet.finetuning.head import Head
    from portnet.sources import find_model

    if classes is None:
        return find_model(source, weights=None, size=size)
    if not 2 <= classes <= 1_000_000:
        raise InputError(f"summary: got {classes} classes, expected 2 to 1,000,000")
    body = find_model(source) if os.path.isdir(source) else source
    return Head.parse(head).attach(Backbone.of(body, weights=None, size=size), [f"class {i}" for i in range(classes)])


def _policy(network: Model, freeze: str) -> FreezeTable:
    from portnet.finetuning.freeze import FreezePolicy

    return FreezePolicy.parse(freeze).resolve(network)


def _shape(row: SummaryRow) -> str:
    return "?" if row.shape is None else "×".join(map(str, row.shape)) or "scalar"


def _totals(found: Summary, table: FreezeTable | None) -> str:
    parts = [f"{len(found.rows)} layers", f"{found.parameters:,} parameters ({found.parameters * 4 / 1e6:.1f} MB)"]
    if table is not None:
        parts.append(f"{table.trainable_count:,} of them train")
    if found.macs is None:
        known = sum(row.macs or 0 for row in found.rows)
        parts.append(f"{known / 1e9:.2f} GMACs and those of {len(found.unknown)} layers that are not known")
    else:
        parts.append(f"{found.macs / 1e9:.2f} GMACs an image" if found.macs >= 1e7 else f"{found.macs:,} MACs")
    return ", ".join(parts)


def _plain(found: Summary, table: FreezeTable | None) -> dict[str, Any]:
    trains = {} if table is None else {row.layer.index: row.trainable for row in table.rows}
    layers = [
        {
            "index": row.layer.index,
            "name": row.layer.name,
            "op": row.layer.op,
            "stage": row.layer.stage,
            "output": None if row.shape is None else list(row.shape),
            "parameters": row.layer.parameters,
            "trainable": trains.get(row.layer.index),
            "macs": row.macs,
        }
        for row in found.rows
    ]
    totals = {"parameters": found.parameters, "macs": found.macs}
    if table is not None:
        totals["trainable"] = table.trainable_count
    return {"name": found.name, **totals, "layers": layers}
