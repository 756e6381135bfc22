"""torchvision's networks in a plain loop: contiguous images, torch.optim's defaults."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bench.batch import LR, MOMENTUM

__all__ = ["KINDS", "define_missing_operators"]


@functools.cache
def define_missing_operators() -> Any:
    """Define the two operators that torchvision's import asks for and its wheel lacks beside a CPU build of torch."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    return library


class _Torchvision:
    def __init__(self, network: str, size: int) -> None:
        define_missing_operators()
        import torchvision.models

        self._network = getattr(torchvision.models, network)(weights=None)
        self._optimizer = torch.optim.SGD(self._network.parameters(), LR, momentum=MOMENTUM)
        self._is_calibrated = False

    def layout(self, images: np.ndarray) -> np.ndarray:
        return images

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        self._network.train()
        self._optimizer.zero_grad()
        loss = F.cross_entropy(self._network(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def predict(self, x: np.ndarray) -> np.ndarray:
        self._calibrate(x)
        self._network.eval()
        with torch.inference_mode():
            return self._network(torch.from_numpy(x)).numpy()

    def _calibrate(self, x: np.ndarray) -> None:
        if self._is_calibrated:
            return
        norms = [m for m in self._network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            self._network.train()(torch.from_numpy(x))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self._is_calibrated = True


KINDS = {"torchvision, eager": _Torchvision}
