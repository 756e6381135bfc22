"""Imports MXNet 1.9.1 under a numpy that has dropped names it was written against.

MXNet is retired; 1.9.1 reads ``numpy.bool`` while it is imported, and numpy 1.24 removed that alias of the
built-in type. The name is lent for the import alone and taken away again, so that nobody else in the process
sees another numpy than was installed. What still asks for it later is boolean indexing of ``mxnet.np`` arrays,
which this engine does not use.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np

__all__ = ["mx", "npi", "unprinted"]

_DROPPED = {"bool": bool}


@contextlib.contextmanager
def _lent(names: dict[str, type]) -> Iterator[None]:
    missing = {name: value for name, value in names.items() if name not in vars(np)}
    for name, value in missing.items():
        setattr(np, name, value)
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)


with _lent(_DROPPED), warnings.catch_warnings():
    # MXNet looks up every function numpy ever had, and numpy warns about the departed
    warnings.simplefilter("ignore")
    import mxnet as mx
    from mxnet.symbol.numpy import _internal as npi


def unprinted() -> contextlib.AbstractContextManager[object]:
    """Return a context in which MXNet's inference does not print its arguments before it raises."""
    return contextlib.redirect_stdout(io.StringIO())
