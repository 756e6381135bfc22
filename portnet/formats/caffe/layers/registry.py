"""The table of Caffe's layers: type → function that writes it onto the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from portnet.formats.caffe.layers.layer import Layer

__all__ = ["TABLE", "Builder", "NotExpressible", "caffe"]

# one value for each top
Builder = Callable[["Layer"], "ir.Value | Sequence[ir.Value]"]

TABLE: dict[str, Builder] = {}


class NotExpressible(Exception):  # noqa: N818 - the reason, on its way to the list of what is missing
    """A layer that is known, with an option that has no translation; the message says which."""


def caffe(*kinds: str) -> Callable[[Builder], Builder]:
    """Register the decorated function for types of layers."""

    def register(builder: Builder) -> Builder:
        TABLE.update(dict.fromkeys(kinds, builder))
        return builder

    return register
