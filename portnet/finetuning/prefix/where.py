"""Where the prefix runs: in onnxruntime, or, where that has no provider for it, on the device that trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from portnet.adapter import Lowered
from portnet.engines import engine
from portnet.finetuning.environment import of_engine
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model
from portnet.runtime.providers import preferred_here
from portnet.runtime.session import Session

__all__ = ["Computer", "Place", "place"]


class Computer(Protocol):
    """What computes a prefix: a `Session`, or an engine."""

    def activations(self, x: np.ndarray, batch_size: int = 32) -> list[np.ndarray]:
        """Return all outputs, each (N, ...), for images float32 (N, C, H, W)."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a prefix runs.

    Attributes:
        name: which provider or which engine on which device; part of the key of what is kept.
        open: makes ready what computes a prefix.
    """

    name: str
    open: Callable[[Model], Computer]


def place(settings: Settings) -> Place:
    """Return where the prefix of a run is computed.

    onnxruntime is the quickest on a CPU. For a run on another device whose provider is not in this onnxruntime, the
    engine's own device is quicker by far; there is none yet where the engine is to be chosen.
    """
    provider = preferred_here()
    if settings.device == "cpu" or settings.backend == "auto" or provider != "CPUExecutionProvider":
        return Place(provider, lambda prefix: Session(prefix, provider=provider))
    adapter = engine(settings.backend)
    about = "; ".join(f"{name} {value}" for name, value in of_engine(adapter, settings.device).items())
    where = f"{about}; on {settings.device}"
    return Place(where, lambda prefix: _OnEngine(adapter.lower(prefix, device=settings.device)))


class _OnEngine:
    """A prefix on an engine's device."""

    def __init__(self, lowered: Lowered) -> None:
        self._lowered, self._port = lowered, lowered.model.inputs[0]

    def activations(self, x: np.ndarray, batch_size: int = 32) -> list[np.ndarray]:
        parts = [self._run(x[first : first + batch_size]) for first in range(0, len(x), batch_size)]
        return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _run(self, x: np.ndarray) -> list[np.ndarray]:
        return list(self._lowered.run({self._port.name: x}).values())
