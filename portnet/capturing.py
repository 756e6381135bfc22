"""`capture`: a network of any framework becomes a `Model`, proved against the original before anybody sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import CaptureOptions
from portnet.graph.deploy import deploy as fold_for_deployment
from portnet.graph.model import Model
from portnet.originals import Request, open_original
from portnet.parity.report import Report
from portnet.parity.source import compare_with_source

__all__ = ["Capture", "capture", "capture_original"]


@dataclass(frozen=True)
class Capture:
    """A captured network and its proof.

    Attributes:
        model: the network.
        way: how it was read, in a few words.
        notes: what the user must know, a sentence each.
        report: comparison with the original in its own framework, or None where ``unproved`` says why there is none.
        unproved: why the original could not be run; "" where it was.
    """

    model: Model
    way: str
    notes: tuple[str, ...]
    report: Report | None
    unproved: str = ""

    def __str__(self) -> str:
        proof = str(self.report) if self.report is not None else f"not compared with the original: {self.unproved}"
        return "\n".join([f"{self.model.name}: {self.way}", *self.notes, proof])

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as plain data for JSON."""
        return {
            "name": self.model.name,
            "way": self.way,
            "notes": list(self.notes),
            "parameters": self.model.parameter_count,
            "check": None if self.report is None else self.report.to_dict(),
            "unproved": self.unproved,
        }


def capture(
    native: Any,
    example_inputs: Any = None,
    *,
    dynamic_batch: bool = True,
    keep_layout: bool = False,
    dynamic_sizes: bool = False,
    weights: str | os.PathLike[str] | None = None,
) -> Model:
    """Return a network of another framework as a `Model`: trainable, and proved against the original.

    BatchNormalization and Dropout stay what they are, parameters bear their framework's names, and the batch stays
    free. Then `Model.save` writes it, and `portnet.convert` takes it to any engine.

    >>> model = portnet.capture(my_module, torch.zeros(1, 3, 224, 224))  # doctest: +SKIP
    >>> model.save("mine.onnx")                                          # doctest: +SKIP

    Args:
        native: an nn.Module, a keras.Model, a Gluon block, a path (``net.prototxt``, ``net.cfg``, ``net-symbol.json``,
            ``net.keras``, ``net.h5``, ``net.pt2``, ...) or a word such as ``torchvision:resnet18``.
        example_inputs: an array or tensor, a sequence of them, or for torch a mapping by the names of ``forward``'s
            parameters (what a tokenizer gives), in the framework's own layout, where the network does not say what it
            takes.
        dynamic_batch: whether axis 0 of each input stays free.
        keep_layout: whether channels stay last where the framework has them so; else inputs become channels first.
        dynamic_sizes: whether a network of torch keeps lengths, heights and widths free too, where its code allows it.
        weights: file of the weights, where it is another and does not lie beside ``native`` under its name.

    Raises:
        UnsupportedError: layers that have no translation, all of them named.
        ParityError: the captured network and the original differ; names the first layer that does.
        MissingDependencyError: the framework, or nothing that could run the original, is installed.
        InputError: no such file, a broken or hostile one, or something that is no network.
    """
    options = CaptureOptions(_examples(example_inputs), dynamic_batch, keep_layout, dynamic_sizes)
    return capture_original(native, Request(None if weights is None else Path(weights), None, options)).model


def capture_original(
    source: Any,
    request: Request | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    images: Any = None,
    deploy: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Capture:
    """Open a network of another framework, capture it and compare it with the original.

    Args:
        source: see `capture`.
        request: what else the user says of it.
        inputs: arrays by input name to compare on; None for seeded random ones.
        images: images to compare on as well, where the network's preprocessing is known.
        deploy: whether to return the form for deployment, which is what is compared then.
        progress: called with a few words as each step begins.

    Raises:
        ParityError: the captured network and the original differ.
        PortNetError: see `capture`.
    """
    say = progress or (lambda step: None)
    say(f"open {source if isinstance(source, (str, os.PathLike)) else type(source).__name__}")
    original = open_original(source, request)
    captured = original.captured
    model = captured.model
    if deploy:
        say("fold for deployment")
        model = fold_for_deployment(model)
    if original.source is None:
        return Capture(model, captured.way, captured.notes, None, original.unproved)
    say(f"compare with {original.source.label}")
    report = compare_with_source(model, original.source, captured.model, inputs=inputs, images=images)
    report.raise_if_failed()
    return Capture(model, captured.way, captured.notes, report)


def _examples(given: Any) -> tuple[Any, ...] | None:
    if given is None:
        return None
    return tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
