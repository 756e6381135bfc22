"""Every error that PortNet raises on purpose.

::

    PortNetError                     catch this one to catch them all          exit code 2
    ├── InputError (ValueError)      what the caller gave is wrong
    │   ├── UnknownNameError         no such backbone, engine, layer, ...; offers the nearest
    │   ├── DataError                a folder, image or label that cannot be used
    │   ├── ModelError               a model file or graph that is broken or hostile
    │   ├── WeightsError             weights that do not fit, or whose digest is wrong
    │   └── OutputError              a path that cannot be written
    ├── UnsupportedError             a valid network that an engine cannot express
    ├── MissingDependencyError       a framework that is not installed; says which extra is
    ├── ProviderError                an execution provider that was asked for and does not load
    ├── TrainingError                a run that cannot go on (loss became NaN, ...)   exit code 1
    └── ParityError                  two networks that should agree and do not        exit code 1

A message says what is wrong, what was got, what was expected and what to do, in that order and on
one line where it can.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "DataError",
    "InputError",
    "MissingDependencyError",
    "ModelError",
    "OutputError",
    "ParityError",
    "PortNetError",
    "ProviderError",
    "TrainingError",
    "UnknownNameError",
    "UnsupportedError",
    "WeightsError",
]


class PortNetError(Exception):
    """Base of every error PortNet raises on purpose.

    Attributes:
        exit_code: the command line's.
        run: the `Run` that the error ended, as far as it got; None where there is none, or parts of it are in doubt.
    """

    exit_code: int = 2
    run: Any = None


class InputError(PortNetError, ValueError):
    """What the caller gave is wrong."""


class UnknownNameError(InputError):
    """A name that is not in a known set; the message offers the nearest ones.

    >>> str(UnknownNameError("backbone", "resnet5", ["resnet18", "resnet50"]))
    "unknown backbone 'resnet5'. Did you mean 'resnet50' or 'resnet18'? Known: resnet18, resnet50."
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        options = list(known)
        near = difflib.get_close_matches(str(name), options, n=3, cutoff=0.5)
        parts = [f"unknown {kind} {name!r}."]
        if near:
            parts.append(f"Did you mean {' or '.join(map(repr, near))}?")
        if options:
            shown = options if len(options) <= 20 else [*options[:20], f"... ({len(options)} in all)"]
            parts.append(f"Known: {', '.join(map(_printable, shown))}.")
        if hint:
            parts.append(hint)
        super().__init__(" ".join(parts))
        self.kind, self.name, self.near = kind, name, near


def _printable(name: str) -> str:
    """Return a name on one line: labels and tensors of a file may hold anything."""
    return name if name.isprintable() else repr(name)


class DataError(InputError):
    """A folder, image or label that cannot be used."""


class ModelError(InputError):
    """A model file or graph that is broken, hostile or not ONNX at all."""


class WeightsError(InputError):
    """Weights that do not fit the network, cannot be found, or whose digest is wrong."""


class OutputError(InputError):
    """A path that cannot be written."""


class UnsupportedError(PortNetError):
    """A valid network that an engine cannot express. Raised at conversion time, never at run time."""

    def __init__(self, message: str, *, engine: str = "", op: str = "", node: str = "") -> None:
        super().__init__(message)
        self.engine, self.op, self.node = engine, op, node


class MissingDependencyError(PortNetError, ImportError):
    """Something that is not installed; the message is one line that says how to install it."""


class ProviderError(PortNetError):
    """An execution provider that was asked for and does not load."""


class TrainingError(PortNetError):
    """A run that cannot go on."""

    exit_code = 1


class ParityError(PortNetError):
    """Two networks that should agree and do not."""

    exit_code = 1
