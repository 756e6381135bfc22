"""How far onnxruntime is from itself on a network whose numbers are rounded inside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from portnet.errors import PortNetError
from portnet.graph.blockwise import in_full
from portnet.parity.sides import OnnxruntimeSide
from portnet.runtime.session import Session

__all__ = ["ATOL", "rounding_noise", "tolerated"]

# absolute tolerance where none is asked for; a quantized network gets as many times its noise besides
ATOL, TIMES = 1e-4, 4.0


def tolerated(noise: float) -> float:
    """Return the absolute tolerance of a network of some noise."""
    return ATOL + TIMES * noise


def rounding_noise(reference: OnnxruntimeSide, batches: Iterable[Mapping[str, Any]]) -> float:
    """Return the largest difference that onnxruntime's own optimisations make to a quantized network; 0 for others.

    Its numbers are rounded to steps inside, and the last bit of one decides a whole step of another.
    """
    if not _rounds(reference):
        return 0.0
    model = reference.model
    plain = OnnxruntimeSide(model, session=Session(in_full(model), provider="cpu", optimise=False))
    noise = 0.0
    for batch in batches:
        with contextlib.suppress(PortNetError):  # the comparison itself tells what does not run
            pairs = zip(plain.run(batch).values(), reference.run(batch).values(), strict=True)
            noise = max([noise, *(float(np.abs(np.asarray(a, np.float64) - b).max(initial=0.0)) for a, b in pairs)])
    return noise if np.isfinite(noise) else 0.0


def _rounds(side: OnnxruntimeSide) -> bool:
    names = {node.op_type for node in side.model.ir.graph}
    return any("Quantize" in name or name.startswith("QLinear") for name in names)
