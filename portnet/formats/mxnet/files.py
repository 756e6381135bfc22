"""`read`: the two files of a network."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from portnet.errors import InputError
from portnet.formats.captured import Captured
from portnet.formats.mxnet.symbol import MAX_BYTES, Symbol, parse_symbol
from portnet.formats.mxnet.translate import Translation, translate
from portnet.graph.travel import from_text, take_along
from portnet.weights.read import read_weights

__all__ = ["SUFFIX", "params_beside", "read", "read_symbol", "read_translation"]

SUFFIX = "-symbol.json"


def read(
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    input_shape: Sequence[int | None] | None = None,
    dynamic_batch: bool = True,
    keep_layout: bool = False,
) -> Captured:
    """Read ``PREFIX-symbol.json`` and ``PREFIX-0000.params`` without MXNet.

    Args:
        path: the symbol's file.
        weights: the file of its arrays, of any kind that `read_weights` knows; None for the one beside it of the same
            prefix and the highest epoch. Where there is none, the parameters are random.
        input_shape: of the network's input, where the file does not tell: old files never do.
        dynamic_batch: whether axis 0 of the inputs stays free.
        keep_layout: without effect: MXNet's images are channels first.

    Raises:
        InputError: no such file, a broken or hostile one, or a shape that nobody tells.
        WeightsError: arrays that are missing or do not fit.
        UnsupportedError: names all layers that have no translation.
    """
    return read_translation(path, weights, input_shape=input_shape, dynamic_batch=dynamic_batch).captured


def read_translation(
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    input_shape: Sequence[int | None] | None = None,
    dynamic_batch: bool = True,
) -> Translation:
    """Return what `read` reads, and how to find its tensors again in the symbol."""
    path = Path(path)
    symbol = read_symbol(path)
    params = Path(weights) if weights is not None else params_beside(path)
    arrays = None if params is None else read_weights(params)
    translation = translate(
        symbol,
        arrays,
        source=path.name.removesuffix(SUFFIX).removesuffix(".json"),
        input_shape=input_shape,
        dynamic_batch=dynamic_batch,
        way=f"read from {path.name}" + ("" if params is None else f" and {params.name}"),
    )
    if symbol.carried:
        take_along(translation.captured.model, from_text(symbol.carried, str(path)))
    return translation


def read_symbol(path: Path) -> Symbol:
    """Read the graph in a symbol's file.

    Raises:
        InputError: no such file, or no symbol.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return parse_symbol(text, str(path))


def params_beside(path: Path) -> Path | None:
    """Return ``PREFIX-EPOCH.params`` beside ``PREFIX-symbol.json``, of the highest epoch, or None."""
    prefix = path.name.removesuffix(SUFFIX).removesuffix(".json")
    pattern = re.compile(re.escape(prefix) + r"(?:-(\d{1,9}))?\.params")
    found = [(match, each) for each in path.parent.iterdir() if (match := pattern.fullmatch(each.name))]
    return max(found, key=lambda pair: int(pair[0].group(1) or -1))[1] if found else None
