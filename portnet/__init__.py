"""PortNet: fine-tune, convert and ship neural networks across frameworks.

The ONNX graph is the model; PyTorch, Keras and MXNet Gluon are engines it is lowered onto.

>>> import portnet
>>> run = portnet.finetune("photos/", backbone="squeezenet1_1", backend="torch")  # doctest: +SKIP
>>> run.export("pets.onnx")                                                       # doctest: +SKIP
>>> portnet.load("pets.onnx").predict(["cat.jpg"])                                # doctest: +SKIP

Importing this package loads nothing but itself: each name below is imported on first use.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> module that defines it (None: the name is a module of its own)
_PUBLIC: dict[str, str | None] = {
    "finetune": "portnet.finetuning.api",
    "Run": "portnet.finetuning.run",
    "Backbone": "portnet.finetuning.backbone",
    "Head": "portnet.finetuning.head",
    "FreezePolicy": "portnet.finetuning.freeze",
    "Model": "portnet.graph.model",
    "zoo": None,
    "engine": "portnet.engines",
    "load": "portnet.runtime.session",
    "FeatureExtractor": "portnet.features",
    "preprocess": "portnet.data.preprocess",
    "check": "portnet.parity.check",
    "capture": "portnet.capturing",
    "convert": "portnet.conversion",
    "PortNetError": "portnet.errors",
}

__all__ = [  # noqa: RUF022 - told in the order of a user's work
    "finetune",
    "Run",
    "Backbone",
    "Head",
    "FreezePolicy",
    "Model",
    "zoo",
    "engine",
    "load",
    "FeatureExtractor",
    "preprocess",
    "check",
    "capture",
    "convert",
    "PortNetError",
]

if TYPE_CHECKING:
    from portnet import zoo
    from portnet.capturing import capture
    from portnet.conversion import convert
    from portnet.data.preprocess import preprocess
    from portnet.engines import engine
    from portnet.errors import PortNetError
    from portnet.features import FeatureExtractor
    from portnet.finetuning.api import finetune
    from portnet.finetuning.backbone import Backbone
    from portnet.finetuning.freeze import FreezePolicy
    from portnet.finetuning.head import Head
    from portnet.finetuning.run import Run
    from portnet.graph.model import Model
    from portnet.parity.check import check
    from portnet.runtime.session import load


def __getattr__(name: str) -> Any:
    """Import a public name, or a module such as ``portnet.errors``, when it is first asked for (PEP 562)."""
    if name not in _PUBLIC:
        if not name.startswith("_") and importlib.util.find_spec(f"portnet.{name}"):
            return importlib.import_module(f"portnet.{name}")
        raise AttributeError(f"module 'portnet' has no attribute {name!r}")
    source = _PUBLIC[name]
    value = (
        importlib.import_module(f"portnet.{name}") if source is None else getattr(importlib.import_module(source), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC} - {"Any", "TYPE_CHECKING", "annotations", "importlib"})
