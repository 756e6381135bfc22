"""Networks in the files of an engine's community."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FileFormat", "Reloaded"]


@dataclass(frozen=True)
class FileFormat:
    """A form in which a framework's community keeps networks in files.

    Attributes:
        suffixes: endings that an output path of this form may have; "" for a path without one, which names a folder
            or the beginning of several files' names.
        description: what it is, and what loads it.
    """

    suffixes: tuple[str, ...]
    description: str


class Reloaded(abc.ABC):
    """A network as its framework read it from files.

    Attributes:
        notes: what whoever loads the files must know: an order of axes that is not ONNX's, code that must be installed.
    """

    notes: tuple[str, ...] = ()

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode: arrays by ONNX input name in, arrays by output name out, in ONNX's layout and dtypes.

        Whatever the framework raises may pass; the caller turns it into a failed check.
        """
