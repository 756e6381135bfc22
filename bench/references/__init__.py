"""What one would write without PortNet: each framework's own zoo network in a plain training loop."""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np

__all__ = ["Reference", "references"]


class Reference(Protocol):
    """A framework's own network and loop.

    Attributes:
        name: network and loop, as the tables name them.
        note: where the network is not the same as the zoo's.
    """

    name: str
    note: str

    def layout(self, images: np.ndarray) -> np.ndarray:
        """Return images, (N, 3, H, W), as a program for this framework would hold them. Not timed."""

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Take one step of SGD with momentum; return the loss."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return logits or probabilities."""


def references(engine: str, network: str, size: int) -> list[Reference]:
    """Return what a zoo network is compared with on an engine; nothing where the framework has no such network."""
    found: list[Reference] = importlib.import_module(f"bench.references.{engine}").references(network, size)
    return found
