"""``portnet cache``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portnet.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from portnet.finetuning.prefix.store import Entry

__all__ = ["cache"]


def cache(
    entry: Annotated[str | None, typer.Argument(help="With --clear: the entry to remove. Default: all.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept, or one entry.")] = False,
    json: Json = False,
) -> None:
    """List the activations of frozen networks that runs have kept, or remove them.

    Example: portnet cache --clear 3f2a
    """
    from portnet.finetuning.prefix.store import Store

    if entry is not None and not clear:
        raise typer.BadParameter(f"got {entry!r} without --clear. To remove it: portnet cache --clear {entry}")
    store = Store()
    entries = store.clear(entry) if clear else store.entries()
    size = sum(each.size for each in entries)
    if json:
        print_json(
            {
                "folder": str(store.folder),
                "cleared": clear,
                "bytes": size,
                "entries": [_plain(each) for each in entries],
            }
        )
    elif clear:
        typer.echo(f"removed {_count(entries)}, {size / 1e6:,.1f} MB, from {store}")
    elif not entries:
        typer.echo(f"nothing is kept in {store}")
    else:
        columns = ("entry", "network", "tensors", "images", "views", "dtype", "MB", "age")
        print_table(columns, [_row(each) for each in entries])
        typer.echo(f"{_count(entries)}, {size / 1e6:,.1f} MB, in {store}")


def _count(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"


def _row(entry: Entry) -> tuple[str, ...]:
    size = f"{entry.size / 1e6:,.1f}"
    if not entry.is_whole:
        state = "unfinished" if entry.is_left else "damaged"
        state = state if entry.owner is None else f"written now by process {entry.owner}"
        return entry.id, state, "", "", "", "", size, ""
    known = entry.manifest
    return (
        entry.id,
        str(known.get("network", "")),
        ", ".join(map(str, known.get("tensors", []))),
        f"{known.get('images', 0):,}",
        str(known.get("views", "")),
        str(known.get("dtype", "")),
        size,
        _age(str(known.get("created", ""))),
    )


def _plain(entry: Entry) -> dict[str, Any]:
    names = ("network", "tensors", "images", "views", "dtype", "created", "key")
    about = {name: entry.manifest.get(name) for name in names}
    return {"id": entry.id, "path": str(entry.path), "bytes": entry.size, "whole": entry.is_whole, **about}


def _age(created: str) -> str:
    try:
        seconds = (datetime.now(timezone.utc) - datetime.fromisoformat(created)).total_seconds()
    except (TypeError, ValueError):
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
