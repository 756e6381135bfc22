"""An .onnx file to PyTorch: PortNet against onnx2torch, both in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.batch import batch_of
from bench.references.torch import define_missing_operators
from bench.row import Row
from bench.timing import Action, Budget, clocked, interleaved
from portnet import Model, engine

__all__ = ["run"]


def run(*, path: str, subject: str, count: int, size: int, budget: dict[str, Any]) -> list[Row]:
    """Return rows of conversion, of inference of the result, and of what torch.compile makes of it."""
    define_missing_operators()
    import onnx2torch

    fields = _compared(lambda: _lower(path), lambda: onnx2torch.convert(path), budget)
    against = "onnx2torch"
    rows = [Row("convert", subject, "torch", against, aim=0.5, note="file to native network, without proof", **fields)]
    ours, theirs = _lower(path), onnx2torch.convert(path).eval()
    x = batch_of(count, size).x
    fields = _compared(lambda: ours.predict(x), lambda: _predict(theirs, x), budget)
    rows.append(Row("converted inference", subject, "torch", against, aim=0.8, **fields))
    return [*rows, _compiled(ours, subject, x)]


def _compared(ours: Action, theirs: Action, budget: dict[str, Any]) -> dict[str, Any]:
    return interleaved(clocked(ours), clocked(theirs), Budget(**budget)).fields


def _lower(path: str) -> Any:
    return engine("torch").lower(Model.load(path))


def _predict(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = network(torch.from_numpy(x)).numpy()
    return result


def _compiled(lowered: Any, subject: str, x: np.ndarray) -> Row:
    row = {"section": "torch.compile", "subject": subject, "engine": "torch", "against": "the same network, eager"}
    expected = lowered.predict(x)
    try:
        found = _predict(torch.compile(lowered.native, fullgraph=True), x)
    except Exception as error:
        return Row(**row, kind="max abs", aim=1e-4, note=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    difference = float(np.abs(found - expected).max())
    return Row(**row, kind="max abs", score=difference, aim=1e-4, rounds=1, note="one graph, no break")
