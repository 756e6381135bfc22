"""An .onnx file to Keras, timed alone: onnx2tf cannot share an environment with PortNet."""

from __future__ import annotations

import time
from typing import Any

from bench.row import Row
from portnet import Model, engine

__all__ = ["run"]


def run(*, path: str, subject: str, rounds: int) -> list[Row]:
    """Return a row whose ``extra`` has the seconds of the first conversion and the least of the later ones."""
    engine("keras").version()  # imports the framework, as onnx2tf has done before its first conversion
    times = [_seconds(path) for _ in range(rounds)]
    return [Row("convert", subject, "keras", extra={"first": times[0], "least": min(times)})]


def _seconds(path: str) -> float:
    start = time.perf_counter()
    network: Any = engine("keras").lower(Model.load(path)).native
    assert network.layers
    return time.perf_counter() - start
