"""``--shape``: sizes that a network leaves free, fixed from the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from portnet.errors import InputError

__all__ = ["Shape", "shapes_of"]

Shape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="INPUT=SIZES",
        help="Fix sizes that the network leaves free: x=?,3,224,224, where ? stays as it is; or, by a free size's "
        "name, height=224. May be repeated.",
    ),
]


def shapes_of(words: list[str] | None) -> dict[str, tuple[int | None, ...] | int] | None:
    """Return the sizes that the options say, by the name of an input or of a free size; None without options.

    >>> shapes_of(["x=?,3,224,224", "length=16"])
    {'x': (None, 3, 224, 224), 'length': 16}

    Raises:
        InputError: not a name and numbers.
    """
    return dict(map(_read, words)) if words else None


def _read(word: str) -> tuple[str, tuple[int | None, ...] | int]:
    name, equals, sizes = word.rpartition("=")
    entries = [entry.strip() for entry in sizes.split(",")]
    if not name or not equals or not all(entry == "?" or (entry.isascii() and entry.isdigit()) for entry in entries):
        raise InputError(f"--shape: got {word!r}, expected an input and its sizes, e.g. x=?,3,224,224 or height=224")
    numbers = tuple(None if entry == "?" else int(entry) for entry in entries)
    return name, numbers[0] if len(numbers) == 1 and numbers[0] is not None else numbers
