"""A random state of our own in torch's global generators, on which Dropout draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["RandomState"]


class RandomState:
    """The state of one device's generator that only a trainer's steps see.

    Dropout takes no generator of its own in torch, so inside `active` the global one holds this state, and
    afterwards again what it held before.
    """

    def __init__(self, seed: int, device: str) -> None:
        self._device = torch.device(device)
        self.state = torch.Generator(self._device).manual_seed(seed).get_state()

    @contextmanager
    def active(self, *, keep: bool = True) -> Iterator[None]:
        """Draw from this state; what was drawn stays drawn if ``keep``."""
        theirs = self._get()
        self._set(self.state)
        try:
            yield
        finally:
            if keep:
                self.state = self._get()
            self._set(theirs)

    def _get(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)
